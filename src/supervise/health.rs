//! What is said of a run that was ready: that it works, that it does not, that it reloads, that it needs time.
//!
//! ```text
//!              Unhealthy, or a reload that takes too long
//!   works ─────────────────────────────────────────────────▶ unhealthy: out of rotation, to be replaced
//!     ▲                                                          │
//!     └────────────────────────── Healthy ───────────────────────┘
//!
//!   Reloading ─▶ reloads (in service as before) ─▶ Ready
//! ```
//!
//! An instance that works again before its replacement has begun keeps its place. A replacement that has begun goes
//! on: what stopped working once is not trusted more than a fresh process, and beginning and giving up by turns would
//! serve nobody. If the replacement fails, the old instance serves on.

use crate::model::duration::Millis;
use crate::model::event::EventKind;
use crate::model::names::RunId;
use crate::supervise::app::App;
use crate::supervise::cx::Cx;
use crate::supervise::output::Output;
use crate::supervise::policy::replacement;
use crate::supervise::rollout::{Failure, Purpose, Step};
use crate::supervise::run::{Phase, Run};

impl App {
    /// Somebody watches whether this run goes on to work.
    pub(super) fn is_monitored(&self, run: &Run) -> bool {
        let spec = self.spec_of(run);
        spec.health.is_some() || spec.watchdog.is_some() || spec.hang_timeout.is_some()
    }

    /// Has a run that is ready watched.
    pub(super) fn monitor(&self, cx: &mut Cx, id: RunId) {
        if self.runs.get(&id).is_some_and(|run| self.is_monitored(run)) {
            cx.emit(Output::Monitor(id));
        }
    }

    /// Ends that.
    pub(super) fn end_monitor(&self, cx: &mut Cx, id: RunId) {
        if self.runs.get(&id).is_some_and(|run| self.is_monitored(run)) {
            cx.emit(Output::EndMonitor(id));
        }
    }

    /// It does not work any more.
    pub(super) fn on_unhealthy(&mut self, cx: &mut Cx, id: RunId, why: String) {
        let Some(run) = self.runs.get(&id).filter(|run| run.is_online()) else {
            return;
        };
        let fresh = replacement::has_worked(run, self.spec_of(run), cx.now) && !run.judged;
        let (slot, pid) = (run.slot, run.pid);
        let Some(run) = self.runs.get_mut(&id) else { return };
        run.late = false;
        if run.unhealthy.replace(why.clone()).is_some() {
            return;
        }
        if fresh && self.in_service(id) {
            // What went before has nothing to do with this.
            self.forgive(cx, slot);
        }
        cx.event(self, EventKind::Unhealthy, Some(slot), pid, why.clone());
        self.rollout_unhealthy(cx, id, &why);
    }

    /// It works (again).
    pub(super) fn on_healthy(&mut self, cx: &mut Cx, id: RunId) {
        let Some(run) = self.runs.get_mut(&id).filter(|run| run.is_online()) else {
            return;
        };
        // A watchdog that is fed says so all the time.
        if run.worked && run.unhealthy.is_none() {
            return;
        }
        run.worked = true;
        run.late = false;
        let again = run.unhealthy.take().is_some();
        let (slot, pid, judged) = (run.slot, run.pid, run.judged);
        if again {
            cx.event(self, EventKind::Healthy, Some(slot), pid, "works again");
        }
        if !judged && self.in_service(id) {
            self.forgive(cx, slot);
        }
        self.rollout_proven(cx, id);
    }

    /// It reloads its configuration.
    pub(super) fn on_reloading(&mut self, cx: &mut Cx, id: RunId) {
        let Some(run) = self.runs.get(&id).filter(|run| run.is_online()) else {
            return;
        };
        let until = cx.now.after(self.spec_of(run).listen_timeout);
        let slot = run.slot;
        if let Some(run) = self.runs.get_mut(&id) {
            run.reload_until = Some(until);
        }
        if let Some(Step::Proving { run, healthy_at }) =
            self.rollout.as_mut().and_then(|rollout| rollout.active.get_mut(&slot))
            && *run == id
        {
            *healthy_at = None;
        }
    }

    /// It is ready again.
    pub(super) fn on_reloaded(&mut self, cx: &mut Cx, id: RunId) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        let late = run.late;
        if run.reload_until.take().is_none() && !late {
            return;
        }
        let (slot, pid) = (run.slot, run.pid);
        if late {
            run.late = false;
            run.unhealthy = None;
        }
        cx.event(self, EventKind::Online, Some(slot), pid, "ready again after its reload");
        self.rollout_proven(cx, id);
    }

    /// It was not ready again in time. It may serve as before, but nobody knows: a fresh process takes its place.
    pub(super) fn reload_due(&mut self, cx: &mut Cx, id: RunId) {
        let Some(run) = self.runs.get_mut(&id).filter(|run| run.is_online()) else {
            return;
        };
        run.reload_until = None;
        let known = run.unhealthy.is_some();
        let allowed = self.runs.get(&id).map_or_else(String::new, |run| self.patience(run));
        self.on_unhealthy(cx, id, format!("not ready again {allowed} after it began to reload"));
        if let Some(run) = self.runs.get_mut(&id) {
            run.late = !known;
        }
    }

    /// It needs more time for what it is doing.
    pub(super) fn on_extend(&mut self, cx: &Cx, id: RunId, time: Millis) {
        let until = cx.now.after(time);
        let Some(run) = self.runs.get_mut(&id) else { return };
        let deadline = match run.phase {
            Phase::Starting | Phase::PreStop | Phase::Stopping => &mut run.deadline,
            Phase::Online => &mut run.reload_until,
            Phase::Spawning | Phase::Killing | Phase::Sweeping => return,
        };
        if deadline.is_some_and(|at| at < until) {
            *deadline = Some(until);
            run.extended = true;
        }
    }

    /// How long a run may take to become ready, for people.
    pub(super) fn patience(&self, run: &Run) -> String {
        let spec = self.spec_of(run);
        let more = if run.extended { " and the time it asked for" } else { "" };
        format!("{}{more}{}", spec.listen_timeout, spec.unready_hint())
    }

    /// It is the one in service in its slot.
    pub(super) fn in_service(&self, id: RunId) -> bool {
        self.runs
            .get(&id)
            .and_then(|run| self.slots.get(run.slot as usize))
            .is_some_and(|record| record.current == Some(id))
    }

    /// A run of the generation to come does not work: in its probation, and in service as long as the rollout is on.
    fn rollout_unhealthy(&mut self, cx: &mut Cx, id: RunId, why: &str) {
        let Some(run) = self.runs.get(&id) else { return };
        let Some(rollout) = self
            .rollout
            .as_ref()
            .filter(|rollout| !rollout.rolling_back && !rollout.finishing)
        else {
            return;
        };
        let slot = run.slot;
        let proving = matches!(rollout.active.get(&slot), Some(Step::Proving { run, .. }) if *run == id);
        let in_service = rollout.purpose == Purpose::Reload
            && rollout.done.contains(&slot)
            && run.generation == rollout.to
            && self.in_service(id);
        if proving || in_service {
            let why = Failure {
                slot: Some(slot),
                message: format!("the new instance was ready, but it is unhealthy: {why}"),
                stderr: Vec::new(),
            };
            self.fail_rollout(cx, why);
        }
    }
}
