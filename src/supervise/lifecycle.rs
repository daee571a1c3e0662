//! Starting and stopping runs, and what follows from what becomes of them.

use std::sync::Arc;

use crate::model::duration::Millis;
use crate::model::event::EventKind;
use crate::model::exit::{Exit, ExitStatus};
use crate::model::names::{RunId, Slot};
use crate::model::spec::Ready;
use crate::supervise::app::App;
use crate::supervise::cx::Cx;
use crate::supervise::output::Output;
use crate::supervise::policy::stability;
use crate::supervise::run::{Cause, Generation, Phase, Run};

/// How long after SIGKILL a process may still be there before waiting commands are told.
const KILL_PATIENCE: Millis = Millis::from_secs(10);

impl App {
    /// Starts the slots that should run and do not; checks `require` first if there is one.
    pub fn bring_up(&mut self, cx: &mut Cx, slots: &[Slot]) {
        if self.circuit.is_open() {
            return;
        }
        // In a rollout another run of the slot may be on its way out; otherwise the slot waits until it is empty.
        let busy = self.busy_slots();
        let idle: Vec<Slot> = slots
            .iter()
            .copied()
            .filter(|slot| {
                self.is_wanted(*slot)
                    && (!busy.contains(slot) || self.rollout.is_some() && self.current(*slot).is_none())
                    && self
                        .slots
                        .get(*slot as usize)
                        .is_none_or(|record| record.incoming.is_none() && !record.circuit.is_open())
            })
            .collect();
        if idle.is_empty() {
            return;
        }
        if self.spec().require.is_empty() {
            for slot in idle {
                self.launch_current(cx, slot);
            }
            return;
        }
        for slot in idle {
            let record = self.slot_mut(slot);
            record.unchecked = true;
            record.next_start = None;
        }
        if !self.checking {
            self.ask_check(cx);
        }
    }

    /// Has a `require` checked: of the generation to come if a rollout waits for it, else of the one in force.
    /// One at a time: if an answer is under way, it is void, and the question is asked again then.
    pub fn ask_check(&mut self, cx: &mut Cx) {
        if self.checking {
            self.recheck = true;
            return;
        }
        let coming = self
            .rollout
            .as_ref()
            .filter(|rollout| rollout.checking)
            .map(|rollout| rollout.to);
        let spec = coming.and_then(|to| self.specs.get(&to)).unwrap_or_else(|| self.spec());
        cx.emit(Output::Check(self.id, Arc::clone(spec)));
        self.checking = true;
    }

    /// The answer to `Check`.
    pub fn on_checked(&mut self, cx: &mut Cx, result: Result<(), String>) {
        self.checking = false;
        let for_rollout = self.rollout.as_ref().is_some_and(|rollout| rollout.checking);
        let for_slots = self.slots.iter().any(|record| record.unchecked);
        if std::mem::take(&mut self.recheck) {
            if for_rollout || for_slots {
                self.ask_check(cx);
            }
            return;
        }
        if for_rollout {
            self.on_rollout_checked(cx, result);
            if for_slots && !self.checking {
                self.ask_check(cx);
            }
            return;
        }
        let waiting: Vec<Slot> = (0..self.desired)
            .filter(|slot| self.slots.get(*slot as usize).is_some_and(|s| s.unchecked))
            .collect();
        for slot in &waiting {
            self.slot_mut(*slot).unchecked = false;
        }
        match result {
            Ok(()) => {
                for slot in waiting {
                    if self.is_wanted(slot) && self.current(slot).is_none() && !self.circuit.is_open() {
                        self.launch_current(cx, slot);
                    }
                }
            }
            Err(missing) => {
                let waiting: Vec<Slot> = waiting.into_iter().filter(|slot| self.is_wanted(*slot)).collect();
                if self.any_stable() {
                    // What works goes on; only these instances stay away.
                    self.trip_slots(cx, &waiting, &missing);
                } else if !waiting.is_empty() {
                    self.trip_app(cx, missing, None, Vec::new());
                }
            }
        }
    }

    /// Starts the run that is to be in service in a slot. Outside a rollout, a slot of which something is left
    /// starts when that is gone; see [`App::mend`].
    pub fn launch_current(&mut self, cx: &mut Cx, slot: Slot) {
        if self.rollout.is_none() && self.runs_in(slot).next().is_some() {
            return;
        }
        let generation = self.generation_for(slot);
        let run = self.launch(cx, slot, generation);
        self.slot_mut(slot).current = Some(run);
    }

    /// Starts a run in a slot; the caller gives it its part.
    pub fn launch(&mut self, cx: &mut Cx, slot: Slot, generation: Generation) -> RunId {
        let id = cx.next_run();
        let run = Run::new(id, slot, generation);
        let spec = Arc::clone(self.spec_of(&run));
        self.runs.insert(id, Box::new(run));
        let record = self.slot_mut(slot);
        record.newest = Some(id);
        record.next_start = None;
        record.completed = false;
        record.unchecked = false;
        cx.emit(Output::Spawn {
            run: id,
            app: self.id,
            slot,
            spec,
        });
        id
    }

    /// The generation a slot is started from: the one in force, or the new one where a rollout already
    /// replaced this slot.
    fn generation_for(&self, slot: Slot) -> Generation {
        self.rollout
            .as_ref()
            .map_or(self.generation, |rollout| rollout.generation_for(slot))
    }

    /// The keeper has started it.
    pub fn on_spawned(&mut self, cx: &mut Cx, id: RunId, pid: i32) {
        let now = cx.now;
        let Some(run) = self.runs.get_mut(&id).filter(|run| run.phase == Phase::Spawning) else {
            return;
        };
        run.pid = Some(pid);
        run.began = Some(now);
        run.phase = Phase::Starting;
        let (slot, cause) = (run.slot, run.cause.clone());
        cx.event(self, EventKind::Started, Some(slot), Some(pid), "started");
        if let Some(cause) = cause {
            if let Some(run) = self.runs.get_mut(&id) {
                run.cause = None;
            }
            self.stop_run(cx, id, cause);
            return;
        }
        let Some(run) = self.runs.get(&id) else { return };
        let spec = Arc::clone(self.spec_of(run));
        if spec.ready == Ready::Spawn {
            self.on_ready(cx, id);
        } else {
            if let Some(run) = self.runs.get_mut(&id) {
                run.deadline = Some(now.after(spec.listen_timeout));
            }
            cx.emit(Output::Probe(id));
        }
    }

    /// The keeper could not start it. Counts as an unstable exit.
    pub fn on_spawn_failed(&mut self, cx: &mut Cx, id: RunId, reason: &str) {
        let Some(run) = self.runs.get_mut(&id).filter(|run| run.phase == Phase::Spawning) else {
            return;
        };
        run.exit = Some((cx.now, Exit::bare(ExitStatus::Unknown)));
        run.phase = Phase::Sweeping;
        let slot = run.slot;
        if run.cause.is_none() {
            cx.event(self, EventKind::SpawnFailed, Some(slot), None, reason);
        }
        self.conclude(cx, id, Some(reason.to_owned()));
    }

    /// The machine lacked something to start it with. Tried again with back-off, and counted towards no circuit.
    pub fn on_spawn_starved(&mut self, cx: &mut Cx, id: RunId, reason: &str) {
        if let Some(run) = self.runs.get_mut(&id) {
            run.starved = true;
        }
        self.on_spawn_failed(cx, id, reason);
    }

    /// It is ready.
    pub fn on_ready(&mut self, cx: &mut Cx, id: RunId) {
        let Some(run) = self.runs.get(&id).filter(|run| run.phase == Phase::Starting) else {
            return;
        };
        let min_uptime = self.spec_of(run).restart.min_uptime;
        let (slot, pid, began) = (run.slot, run.pid, run.began.unwrap_or(cx.now));
        if let Some(run) = self.runs.get_mut(&id) {
            run.phase = Phase::Online;
            run.ready = Some(cx.now);
            run.deadline = Some(began.after(min_uptime));
        }
        cx.event(self, EventKind::Online, Some(slot), pid, "ready");
        self.rollout_ready(cx, id);
        self.check_stable(cx, id);
    }

    fn check_stable(&mut self, cx: &mut Cx, id: RunId) {
        let Some(run) = self
            .runs
            .get(&id)
            .filter(|run| run.phase == Phase::Online && !run.stable)
        else {
            return;
        };
        let min_uptime = self.spec_of(run).restart.min_uptime;
        if !stability::is_stable(run.began.unwrap_or(cx.now), run.ready, cx.now, min_uptime) {
            return;
        }
        let slot = run.slot;
        if let Some(run) = self.runs.get_mut(&id) {
            run.stable = true;
            run.deadline = None;
        }
        if self
            .slots
            .get(slot as usize)
            .is_some_and(|record| record.current == Some(id))
        {
            self.became_stable(cx, slot);
        }
    }

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
            Phase::Online | Phase::PreStop | Phase::Stopping | Phase::Killing => {}
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
        if run.phase == Phase::Starting {
            cx.emit(Output::EndProbe(id));
        }
        run.phase = Phase::Sweeping;
        // What is left is killed then, and may be blocked inside the kernel.
        run.deadline = Some(grace.after(KILL_PATIENCE));
        run.grace = Some(grace);
        let (slot, pid) = (run.slot, run.pid);
        let lived = run.began.map_or(Millis::ZERO, |began| cx.now.since(began));
        let treekill = self.runs.get(&id).is_some_and(|run| self.spec_of(run).stop.treekill);
        let mut draft = Cx::draft(
            self,
            EventKind::Exited,
            Some(slot),
            pid,
            format!("{exit} after {lived}"),
        );
        draft.exit = Some(exit);
        cx.emit(Output::Event(Box::new(draft)));
        if treekill {
            cx.emit(Output::Sweep(id, grace));
        } else {
            self.on_swept(cx, id);
        }
    }

    /// Nothing of its tree is left.
    pub fn on_swept(&mut self, cx: &mut Cx, id: RunId) {
        if self.runs.get(&id).is_some_and(|run| run.phase == Phase::Sweeping) {
            self.conclude(cx, id, None);
        }
    }

    /// A run is over: takes it out of the books and decides what follows.
    fn conclude(&mut self, cx: &mut Cx, id: RunId, spawn_error: Option<String>) {
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
                    let message = format!("not ready after {}", spec.listen_timeout);
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
