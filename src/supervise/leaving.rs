//! Stopping runs, and what follows when they are gone.

use crate::model::duration::Millis;
use crate::model::event::EventKind;
use crate::model::exit::Exit;
use crate::model::names::RunId;
use crate::supervise::app::App;
use crate::supervise::cx::Cx;
use crate::supervise::output::Output;
use crate::supervise::run::{Cause, Phase};

/// How long after SIGKILL a process may still be there before waiting commands are told.
pub(super) const KILL_PATIENCE: Millis = Millis::from_secs(10);

impl App {
    /// Asks a run to stop. Harmless if that is under way; a stronger cause replaces a weaker one.
    pub fn stop_run(&mut self, cx: &mut Cx, id: RunId, cause: Cause) {
        let now = cx.now;
        let Some(run) = self.runs.get_mut(&id) else { return };
        if run.cause.is_some() {
            if run.cause != Some(Cause::Unwanted) {
                run.cause = Some(cause);
            }
            return;
        }
        let (phase, slot, pid) = (run.phase, run.slot, run.pid);
        run.cause = Some(cause);
        match phase {
            Phase::Spawning | Phase::Sweeping => return,
            Phase::Starting => cx.emit(Output::EndProbe(id)),
            Phase::Online => self.end_monitor(cx, id),
            Phase::PreStop | Phase::Stopping | Phase::Killing => {}
        }
        let Some(run) = self.runs.get(&id) else { return };
        let stop = self.spec_of(run).stop.clone();
        cx.event(self, EventKind::Stopping, Some(slot), pid, "stopping");
        let Some(run) = self.runs.get_mut(&id) else { return };
        run.deadline = Some(now.after(stop.kill_timeout));
        if stop.pre_stop.is_empty() {
            run.phase = Phase::Stopping;
            cx.emit(Output::Stop(id));
        } else {
            run.phase = Phase::PreStop;
            cx.emit(Output::PreStop(id));
        }
    }

    /// `pre_stop` is over.
    pub fn on_pre_stopped(&mut self, cx: &mut Cx, id: RunId) {
        let Some(run) = self.runs.get(&id).filter(|run| run.phase == Phase::PreStop) else {
            return;
        };
        let kill_timeout = self.spec_of(run).stop.kill_timeout;
        if let Some(run) = self.runs.get_mut(&id) {
            run.phase = Phase::Stopping;
            run.deadline = Some(cx.now.after(kill_timeout));
            cx.emit(Output::Stop(id));
        }
    }

    /// Its leader process is gone.
    pub fn on_exited(&mut self, cx: &mut Cx, id: RunId, exit: Exit, stderr: Vec<String>) {
        let Some(run) = self.runs.get_mut(&id).filter(|run| run.exit.is_none()) else {
            return;
        };
        run.exit = Some((cx.now, exit));
        run.stderr = stderr;
        let grace = match run.phase {
            Phase::Stopping => run.deadline.unwrap_or(cx.now),
            Phase::Spawning | Phase::Starting | Phase::Online | Phase::PreStop | Phase::Killing | Phase::Sweeping => {
                cx.now
            }
        };
        let was = run.phase;
        run.phase = Phase::Sweeping;
        // What is left is killed then, and may be blocked inside the kernel.
        run.deadline = Some(grace.after(KILL_PATIENCE));
        run.grace = Some(grace);
        let (slot, pid) = (run.slot, run.pid);
        let lived = run.began.map_or(Millis::ZERO, |began| cx.now.since(began));
        match was {
            Phase::Starting => cx.emit(Output::EndProbe(id)),
            Phase::Online => self.end_monitor(cx, id),
            Phase::Spawning | Phase::PreStop | Phase::Stopping | Phase::Killing | Phase::Sweeping => {}
        }
        let treekill = self.runs.get(&id).is_some_and(|run| self.spec_of(run).stop.treekill);
        let mut draft = Cx::draft(
            self,
            EventKind::Exited,
            Some(slot),
            pid,
            format!("{exit} after {lived}"),
        );
        draft.exit = Some(exit);
        if let Some(run) = self.runs.get(&id).filter(|run| self.has_crashed(cx, run)) {
            draft.stderr = run.brief();
        }
        cx.emit(Output::Event(Box::new(draft)));
        if treekill {
            cx.emit(Output::Sweep(id, grace));
        } else {
            self.on_swept(cx, id);
        }
    }

    /// Processes that its leader had started went on without it.
    pub(super) fn on_left_behind(&mut self, id: RunId) {
        if let Some(run) = self.runs.get_mut(&id) {
            run.left_behind = true;
        }
    }

    /// Nothing of its tree is left.
    pub fn on_swept(&mut self, cx: &mut Cx, id: RunId) {
        if self.runs.get(&id).is_some_and(|run| run.phase == Phase::Sweeping) {
            self.conclude(cx, id, None);
        }
    }

    /// A run is over: takes it out of the books and decides what follows.
    pub(super) fn conclude(&mut self, cx: &mut Cx, id: RunId, spawn_error: Option<String>) {
        let Some(run) = self.runs.remove(&id) else { return };
        cx.emit(Output::Release(id));
        let (slot, cause) = (run.slot, run.cause.clone());
        let record = self.slot_mut(slot);
        let was_current = record.current == Some(id);
        let was_incoming = record.incoming == Some(id);
        if was_current {
            record.current = None;
            if run.pid.is_some() {
                record.last_exit = run.exit.map(|(_, exit)| exit);
                record.last_words = run.last_words();
            }
        }
        if was_incoming {
            record.incoming = None;
        }
        match cause {
            Some(Cause::Unwanted | Cause::Replaced) => {
                if was_current && !self.is_wanted(slot) {
                    cx.event(self, EventKind::Stopped, Some(slot), run.pid, "stopped");
                }
            }
            Some(Cause::Restart) => {
                if was_current && self.is_wanted(slot) {
                    self.bring_up(cx, &[slot]);
                }
            }
            None | Some(Cause::NotReady) if was_incoming => {}
            None | Some(Cause::NotReady) => {
                if was_current && !self.rollout_owns_failure(slot, &run) {
                    self.after_failure(cx, &run, spawn_error.clone());
                }
            }
        }
        self.rollout_concluded(cx, &run, was_current, was_incoming, spawn_error);
    }
}
