//! What is due of runs: readiness that did not come, time given to stop that is over.

use std::sync::Arc;

use crate::model::event::EventKind;
use crate::model::names::RunId;
use crate::supervise::app::App;
use crate::supervise::cx::Cx;
use crate::supervise::leaving::KILL_PATIENCE;
use crate::supervise::output::Output;
use crate::supervise::run::{Cause, Phase};

impl App {
    /// What is due by now.
    pub fn on_tick(&mut self, cx: &mut Cx) {
        let due: Vec<RunId> = self
            .runs
            .values()
            .filter(|run| run.deadline.is_some_and(|at| at <= cx.now))
            .map(|run| run.id)
            .collect();
        for id in due {
            self.run_due(cx, id);
        }
        self.replacements_due(cx);
        self.circuits_due(cx);
        self.rollout_due(cx);
    }

    fn run_due(&mut self, cx: &mut Cx, id: RunId) {
        let Some(run) = self.runs.get(&id) else { return };
        match run.phase {
            Phase::Starting => {
                let spec = Arc::clone(self.spec_of(run));
                if spec.ready_on_timeout {
                    cx.emit(Output::EndProbe(id));
                    self.on_ready(cx, id);
                } else {
                    let message = format!("not ready after {}", self.patience(run));
                    cx.event(self, EventKind::ReadyTimeout, Some(run.slot), run.pid, message);
                    self.stop_run(cx, id, Cause::NotReady);
                }
            }
            Phase::Online => self.check_stable(cx, id),
            Phase::PreStop => self.on_pre_stopped(cx, id),
            Phase::Stopping => {
                let message = format!(
                    "killed: still there {} after being asked to stop",
                    self.spec_of(run).stop.kill_timeout
                );
                cx.event(self, EventKind::Killed, Some(run.slot), run.pid, message);
                cx.emit(Output::Kill(id));
                if let Some(run) = self.runs.get_mut(&id) {
                    run.phase = Phase::Killing;
                    run.deadline = Some(cx.now.after(KILL_PATIENCE));
                }
            }
            Phase::Spawning | Phase::Killing | Phase::Sweeping => {
                if let Some(run) = self.runs.get_mut(&id) {
                    run.deadline = None;
                }
            }
        }
    }
}
