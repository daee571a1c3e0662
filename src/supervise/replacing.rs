//! Replacements nobody asked for: one slot at a time, to the same generation.

use crate::model::event::EventKind;
use crate::model::names::RunId;
use crate::model::size::Bytes;
use crate::supervise::app::App;
use crate::supervise::cx::Cx;
use crate::supervise::rollout::Purpose;
use crate::supervise::run::Phase;

impl App {
    /// Memory was measured.
    pub(super) fn on_memory(&mut self, cx: &mut Cx, id: RunId, bytes: Bytes) {
        let Some(run) = self
            .runs
            .get(&id)
            .filter(|run| run.phase == Phase::Online && run.cause.is_none())
        else {
            return;
        };
        let slot = run.slot;
        let (generation, pid) = (run.generation, run.pid);
        let Some(limit) = self.spec_of(run).max_memory_restart.filter(|limit| bytes > *limit) else {
            return;
        };
        let in_service = self
            .slots
            .get(slot as usize)
            .is_some_and(|record| record.current == Some(id));
        let resting = self
            .slots
            .get(slot as usize)
            .and_then(|record| record.memory_rest)
            .is_some_and(|until| cx.now < until);
        if self.rollout.is_some() || !in_service || resting || generation != self.generation || !self.is_wanted(slot) {
            return;
        }
        cx.event(
            self,
            EventKind::MemoryLimit,
            Some(slot),
            pid,
            format!("{bytes} used, more than {limit}: it is being replaced"),
        );
        let record = self.slot_mut(slot);
        record.restarts = record.restarts.saturating_add(1);
        self.begin_rollout(cx, Purpose::Memory, generation, vec![slot], false);
    }
}
