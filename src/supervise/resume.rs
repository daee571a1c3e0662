//! After a daemon has come back: what was under way is asked for again, what should run is started.
//!
//! The record says what was decided, not what was performed: the daemon may have died between the two. So every
//! request that is still open is made once more. They are all harmless when repeated, but one: a `Spawn` whose
//! run the keeper knows already. That one the daemon drops, and hands in `Spawned` (or `Exited`) instead.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::model::names::{RunId, Slot};
use crate::supervise::app::App;
use crate::supervise::cx::Cx;
use crate::supervise::output::Output;
use crate::supervise::run::{Cause, Phase, Run};

impl App {
    /// What is wanted according to the disk, which is newer than the record if the daemon died right after a
    /// commit. To be called between [`App::import`] and [`super::Core::insert`].
    pub fn set_wanted(&mut self, desired: u32, wanted: bool, held: impl IntoIterator<Item = Slot>) {
        if desired > 0 && desired != self.desired {
            self.desired = desired;
            self.slot_mut(desired - 1);
        }
        self.wanted = wanted;
        self.demanded &= wanted;
        self.held = held.into_iter().collect::<BTreeSet<Slot>>();
    }

    /// Asks again for everything that is under way.
    pub(super) fn resume(&mut self, cx: &mut Cx) {
        self.forget_demand();
        if self.checking {
            self.checking = false;
            self.recheck = false;
            self.ask_check(cx);
        }
        for run in self.runs.values() {
            if let Some(output) = self.open_request(run, cx) {
                cx.emit(output);
            }
        }
        let strays: Vec<RunId> = self
            .runs
            .values()
            .filter(|run| run.cause.is_none() && !self.is_wanted(run.slot))
            .map(|run| run.id)
            .collect();
        if !strays.is_empty() || self.wanted_slots().next().is_none() {
            self.abort_rollout(cx, "stopped meanwhile");
        }
        for run in strays {
            self.stop_run(cx, run, Cause::Unwanted);
        }
        if let Some(rollout) = &self.rollout {
            if let Some(run) = rollout.inspecting {
                cx.emit(Output::Inspect(run));
            }
            if rollout.finishing {
                cx.finished_rollouts.push_back(self.id);
            }
            self.advance(cx);
        }
    }

    /// What was last asked for about a run, if the answer is still to come.
    fn open_request(&self, run: &Run, cx: &Cx) -> Option<Output> {
        match run.phase {
            // Decided a moment ago, when this daemon learned how another run had ended: asked for already.
            Phase::Spawning
                if cx
                    .out
                    .iter()
                    .any(|out| matches!(out, Output::Spawn { run: id, .. } if *id == run.id)) =>
            {
                None
            }
            Phase::Spawning => Some(Output::Spawn {
                run: run.id,
                app: self.id,
                slot: run.slot,
                spec: Arc::clone(self.spec_of(run)),
            }),
            Phase::Starting => Some(Output::Probe(run.id)),
            Phase::Online => self.is_monitored(run).then_some(Output::Monitor(run.id)),
            Phase::PreStop => Some(Output::PreStop(run.id)),
            Phase::Stopping => Some(Output::Stop(run.id)),
            Phase::Killing => Some(Output::Kill(run.id)),
            Phase::Sweeping => Some(Output::Sweep(run.id, run.grace.unwrap_or(cx.now))),
        }
    }
}
