//! Apps that are started by their first connection.
//!
//! ```text
//!   start ─▶ dormant ──Demand──▶ demanded: runs, by the restart law, like any other app
//!              ▲                    │
//!              └─ Idle, or every instance has completed
//! ```
//!
//! A dormant app is wanted, and has no process; its sockets are watched by the daemon. Commands on it succeed without
//! starting anything. `stop` ends it altogether; after `start` it is dormant again.

use crate::model::event::EventKind;
use crate::model::names::{RunId, Slot};
use crate::model::outcome::{InstanceResult, Outcome};
use crate::supervise::app::App;
use crate::supervise::cx::Cx;
use crate::supervise::run::{Cause, Phase};

/// Said of a dormant app.
pub(super) const WAITS: &str = "waits for the first connection";

impl App {
    /// It is to run as soon as somebody connects, and not before.
    #[must_use]
    pub fn is_dormant(&self) -> bool {
        self.wanted && !self.deleting && !self.draining && !self.demanded && self.spec().on_demand.is_some()
    }

    /// Somebody connects.
    pub(super) fn on_demand(&mut self, cx: &mut Cx) {
        if !self.is_dormant() {
            return;
        }
        self.demanded = true;
        let slots: Vec<Slot> = self.wanted_slots().collect();
        self.bring_up(cx, &slots);
    }

    /// Nobody has been connected for long. Void while something of it is just being started, restarted or reloaded,
    /// and while nothing of it is ready: it will be said again.
    pub(super) fn on_idle(&mut self, cx: &mut Cx) {
        let coming = self.runs.values().any(|run| {
            let starts = matches!(run.phase, Phase::Spawning | Phase::Starting) && run.cause.is_none();
            starts || run.cause == Some(Cause::Restart)
        });
        let ready = self.runs.values().any(|run| run.is_online());
        let on_demand = self.demanded && self.spec().on_demand.is_some();
        if !on_demand || coming || !ready || self.user_rollout().is_some() {
            return;
        }
        self.abort_rollout(cx, "nobody is connected");
        self.demanded = false;
        let timeout = self.spec().on_demand.and_then(|on_demand| on_demand.idle_timeout);
        let why = timeout.map_or_else(String::new, |timeout| format!(" for {timeout}"));
        cx.event(
            self,
            EventKind::Stopping,
            None,
            None,
            format!("nobody was connected{why}"),
        );
        let runs: Vec<RunId> = self.runs.keys().copied().collect();
        for id in runs {
            self.stop_run(cx, id, Cause::Unwanted);
        }
        for record in &mut self.slots {
            record.next_start = None;
            record.unchecked = false;
        }
    }

    /// When every instance has ended and is not to be restarted, the next connection starts them again.
    pub(super) fn rest_when_completed(&mut self) {
        if !self.demanded || self.spec().on_demand.is_none() || !self.runs.is_empty() || self.rollout.is_some() {
            return;
        }
        let completed = |slot: Slot| self.slots.get(slot as usize).is_some_and(|record| record.completed);
        let wanted: Vec<Slot> = self.wanted_slots().collect();
        if !wanted.is_empty() && wanted.into_iter().all(completed) {
            self.demanded = false;
            for record in &mut self.slots {
                record.completed = false;
            }
        }
    }

    /// After the whole program was down nothing is left of what was demanded.
    pub(super) fn forget_demand(&mut self) {
        let quiet = self.runs.is_empty()
            && !self.circuit.is_tripped()
            && self
                .slots
                .iter()
                .all(|record| record.next_start.is_none() && !record.unchecked && !record.circuit.is_tripped());
        if quiet && self.spec().on_demand.is_some() {
            self.demanded = false;
        }
    }

    /// The answer about one instance of a dormant app.
    pub(super) fn waits(&self, slot: Slot, outcome: Outcome) -> InstanceResult {
        InstanceResult {
            message: Some(WAITS.to_owned()),
            ..self.line(Some(slot), outcome)
        }
    }
}
