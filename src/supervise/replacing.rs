//! Replacements nobody asked for: of what does not work, what is old, what asked for it, what grew too big.
//!
//! ```text
//!   Unhealthy, Recycle, max_age ─▶ the run is marked ──nothing else replaces, no rest──▶ a rollout of its one slot
//!                                      ▲                                                    │ failed, or no better
//!                                      └────────────────────── rest ◀───────────────────────┘
//! ```
//!
//! A mark is part of the run's record, so it outlives the daemon. One slot of an app at a time, the unhealthy first; a
//! rollout that a user asked for comes before all of them, and replaces what is marked anyway. Start-first where that
//! is possible, so that an app is not below what is wanted meanwhile. How often [`policy::replacement`] says.
//!
//! [`policy::replacement`]: crate::supervise::policy::replacement

use crate::model::duration::Millis;
use crate::model::event::EventKind;
use crate::model::names::{RunId, Slot};
use crate::model::size::Bytes;
use crate::model::time::Moment;
use crate::supervise::app::App;
use crate::supervise::cx::Cx;
use crate::supervise::policy::replacement;
use crate::supervise::rollout::Purpose;
use crate::supervise::run::Run;
use crate::supervise::slot::NEVER;

impl App {
    /// To be replaced, though nothing is wrong with it.
    pub(super) fn on_recycle(&mut self, id: RunId, why: String) {
        if let Some(run) = self.runs.get_mut(&id).filter(|run| run.is_online()) {
            run.recycle.get_or_insert(why);
        }
    }

    /// Memory was measured.
    pub(super) fn on_memory(&mut self, cx: &mut Cx, id: RunId, bytes: Bytes) {
        let Some(run) = self.runs.get(&id) else { return };
        let (slot, generation, pid) = (run.slot, run.generation, run.pid);
        let Some(limit) = self.spec_of(run).max_memory_restart.filter(|limit| bytes > *limit) else {
            return;
        };
        if self.rollout.is_some() || !self.is_replaceable(run) {
            return;
        }
        let message = format!("{bytes} used, more than {limit}: it is being replaced");
        cx.event(self, EventKind::MemoryLimit, Some(slot), pid, message);
        let record = self.slot_mut(slot);
        record.restarts = record.restarts.saturating_add(1);
        self.begin_rollout(cx, Purpose::Memory, generation, vec![slot], false);
    }

    /// It is in service and nothing speaks against a replacement of the core's own.
    fn is_replaceable(&self, run: &Run) -> bool {
        run.is_online()
            && run.generation == self.generation
            && self.is_wanted(run.slot)
            && self
                .slots
                .get(run.slot as usize)
                .is_some_and(|record| record.current == Some(run.id) && record.rest.is_none())
    }

    /// Begins the next replacement, if one is due and nothing else is being replaced.
    pub(super) fn replace_next(&mut self, cx: &mut Cx) {
        if self.rollout.is_some() || self.circuit.is_tripped() {
            return;
        }
        let marked = |unhealthy: bool| {
            self.runs.values().find(|run| {
                let marked = if unhealthy {
                    run.unhealthy.is_some()
                } else {
                    run.recycle.is_some()
                };
                marked && self.is_replaceable(run)
            })
        };
        let Some(run) = marked(true).or_else(|| marked(false)) else {
            return;
        };
        let (id, slot, generation, pid) = (run.id, run.slot, run.generation, run.pid);
        let purpose = if run.unhealthy.is_some() {
            let no_use = !run.judged && !replacement::has_worked(run, self.spec_of(run), cx.now);
            let record = self.slot_mut(slot);
            record.restarts = record.restarts.saturating_add(1);
            record.futile = record.futile.saturating_add(u32::from(no_use));
            if let Some(run) = self.runs.get_mut(&id) {
                run.judged = true;
            }
            Purpose::Health
        } else {
            let why = run.recycle.clone().unwrap_or_default();
            cx.event(
                self,
                EventKind::Recycled,
                Some(slot),
                pid,
                format!("{why}: it is being replaced"),
            );
            Purpose::Recycle
        };
        self.begin_rollout(cx, purpose, generation, vec![slot], false);
    }

    /// A replacement of the core's own is over: how soon the next one may come.
    pub(super) fn rest_after(&mut self, cx: &mut Cx, purpose: Purpose, slot: Option<Slot>, failed: bool) {
        let Some(slot) = slot else { return };
        match purpose {
            Purpose::Reload => {}
            Purpose::Health => self.rest_for_health(cx, slot, failed),
            Purpose::Memory | Purpose::Recycle => {
                if failed {
                    let law = &self.spec().restart;
                    let until = cx.now.after(law.cooldown.unwrap_or(law.cooldown_max));
                    self.slot_mut(slot).rest = Some(until);
                }
            }
        }
    }

    fn rest_for_health(&mut self, cx: &mut Cx, slot: Slot, failed: bool) {
        let law = self.spec().restart.clone();
        let seed = cx.peek_run();
        let record = self.slot_mut(slot);
        let before = record.futile;
        record.futile = before.saturating_add(u32::from(failed));
        let futile = record.futile;
        if futile == 0 {
            return;
        }
        let rest = replacement::rest(futile, &law, seed);
        record.rest = Some(rest.map_or(NEVER, |rest| cx.now.after(rest)));
        if futile < law.max_restarts || record.given_up {
            return;
        }
        record.given_up = true;
        let next = rest.map_or_else(
            || format!("replace it with: clmgr reload {}", self.name()),
            |rest| format!("next try in {rest}"),
        );
        let message = format!("{futile} replacements in a row were no better; what is in service stays; {next}");
        cx.event(self, EventKind::CircuitOpen, Some(slot), None, message);
    }

    /// What is in service here has proved that it works.
    pub(super) fn forgive(&mut self, cx: &mut Cx, slot: Slot) {
        let record = self.slot_mut(slot);
        record.futile = 0;
        record.rest = None;
        if std::mem::take(&mut record.given_up) {
            cx.event(self, EventKind::CircuitClosed, Some(slot), None, "it works again");
        }
    }

    /// When a run that is in service has reached its `max_age`.
    fn expires(&self, run: &Run) -> Option<Moment> {
        if !run.is_online() || run.recycle.is_some() {
            return None;
        }
        replacement::expires(run, self.spec_of(run), (u64::from(self.id.0) << 40) ^ run.id.0)
    }

    /// When something of this file is next due.
    pub(super) fn next_replacement(&self) -> Option<Moment> {
        let runs = self
            .runs
            .values()
            .flat_map(|run| [self.expires(run), run.reload_until.filter(|_| run.is_online())]);
        let rests = self.slots.iter().map(|record| record.rest.filter(|at| *at != NEVER));
        runs.chain(rests).flatten().min()
    }

    /// What of it is due by now.
    pub(super) fn replacements_due(&mut self, cx: &mut Cx) {
        for record in &mut self.slots {
            if record.rest.is_some_and(|at| at <= cx.now) {
                record.rest = None;
            }
        }
        let late: Vec<RunId> = self
            .runs
            .values()
            .filter(|run| run.reload_until.is_some_and(|at| at <= cx.now))
            .map(|run| run.id)
            .collect();
        for id in late {
            self.reload_due(cx, id);
        }
        let old: Vec<(RunId, Millis)> = self
            .runs
            .values()
            .filter(|run| self.expires(run).is_some_and(|at| at <= cx.now))
            .filter_map(|run| Some((run.id, cx.now.since(run.ready?))))
            .collect();
        for (id, age) in old {
            self.on_recycle(id, format!("{age} old, which is its max_age"));
        }
    }
}
