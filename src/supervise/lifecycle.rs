//! Starting runs, until they are ready and stable.

use std::sync::Arc;

use crate::model::event::EventKind;
use crate::model::exit::{Exit, ExitStatus};
use crate::model::names::{RunId, Slot};
use crate::model::spec::Ready;
use crate::supervise::app::App;
use crate::supervise::cx::Cx;
use crate::supervise::output::Output;
use crate::supervise::policy::stability;
use crate::supervise::run::{Generation, Phase, Run};

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
        if self.runs.get(&id).is_some_and(|run| run.is_online()) {
            self.on_reloaded(cx, id);
            return;
        }
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
        self.monitor(cx, id);
        self.rollout_proven(cx, id);
        self.check_stable(cx, id);
    }

    pub(super) fn check_stable(&mut self, cx: &mut Cx, id: RunId) {
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
}
