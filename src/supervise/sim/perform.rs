//! The fake edge: what it does with each output, and what must be true of that output.

use std::sync::Arc;

use super::programs::{Behaviour, STUCK};
use super::world::{Proc, World};
use crate::model::exit::{Exit, ExitStatus};
use crate::model::names::{AppId, RunId, Slot};
use crate::model::spec::AppSpec;
use crate::supervise::{Input, Output};

impl World {
    pub(super) fn perform_all(&mut self) {
        while let Some(output) = self.core.poll_output() {
            self.compare(&output);
            self.trace
                .push(format!("{:>12}    -> {}", self.now.0 / 1000, brief(&output)));
            self.perform(output);
        }
        let _ = self.core.take_dirty();
        if let Some(shadow) = &mut self.shadow {
            while let Some(output) = shadow.poll_output() {
                assert!(matches!(output, Output::Reply(..)), "only the shadow wants {output:?}");
            }
            assert_eq!(shadow.poll_timeout(), self.core.poll_timeout(), "the same timers");
        }
    }

    pub(super) fn compare(&mut self, output: &Output) {
        let Some(shadow) = &mut self.shadow else { return };
        if matches!(output, Output::Reply(..)) {
            return;
        }
        while let Some(other) = shadow.poll_output() {
            if !matches!(other, Output::Reply(..)) {
                assert_eq!(
                    format!("{output:?}"),
                    format!("{other:?}"),
                    "the same decision after export and import"
                );
                if let Output::Release(run) = other {
                    shadow.release(run);
                }
                return;
            }
        }
        panic!("the shadow does not want {output:?}");
    }

    pub(super) fn perform(&mut self, output: Output) {
        match output {
            Output::Commit(changes) => {
                assert!(self.committing.is_none(), "one commit at a time");
                self.commits += 1;
                self.committing = Some(changes);
                let fails = self.bad_disk > 0 && self.rng.one_in(self.bad_disk);
                let result = if fails { Err("no space left".to_owned()) } else { Ok(()) };
                let wait = self.rng.below(15);
                self.later(wait, Input::Committed(result));
            }
            Output::Check(id, spec) => {
                let missing = spec.require.env.iter().find(|name| spec.variable(name).is_none());
                let result = missing.map_or(Ok(()), |name| Err(format!("{name} is not set")));
                let wait = self.rng.below(30);
                self.later(wait, Input::Checked(id, result));
            }
            Output::Spawn { run, app, slot, spec } => self.spawn(run, app, slot, spec),
            Output::Probe(run) => {
                self.probed.insert(run);
                if let Some(after) = self.proc(run).behaviour.ready {
                    self.later(after, Input::Ready(run));
                }
            }
            Output::Monitor(run) => {
                let _ = self.proc(run);
                assert!(self.monitored.insert(run), "monitored once");
                if self.sickly {
                    let (ill, well) = (self.rng.below(8000), self.rng.below(8000));
                    if self.rng.one_in(3) {
                        self.later(ill, Input::Unhealthy(run, "it answered 500".to_owned()));
                    }
                    if !self.rng.one_in(3) {
                        self.later(well, Input::Healthy(run));
                    }
                }
            }
            Output::EndMonitor(run) => {
                let _ = self.proc(run);
                assert!(self.monitored.remove(&run), "what is monitored ends once");
            }
            Output::EndProbe(run) => {
                let _ = self.proc(run);
                self.probed.remove(&run);
            }
            Output::PreStop(run) => {
                self.proc(run).told = true;
                let wait = self.rng.below(500);
                self.later(wait, Input::PreStopped(run));
            }
            Output::Stop(run) => {
                let proc = self.proc(run);
                proc.told = true;
                if let Some(after) = proc.behaviour.stop {
                    self.later(after, exited(run, ExitStatus::Signal(15)));
                }
            }
            Output::Kill(run) => {
                let proc = self.proc(run);
                proc.told = true;
                if proc.spec.argv[0] != "undead".into() {
                    self.later(2, exited(run, ExitStatus::Signal(9)));
                }
            }
            Output::Sweep(run, until) => {
                let now = self.now;
                let proc = self.proc(run);
                assert!(proc.exited, "sweeping after the leader");
                let left = proc.behaviour.sweep > 100;
                let wait = match proc.behaviour.sweep {
                    STUCK => STUCK,
                    sweep => sweep.min(until.since(now).0 + 5),
                };
                if left {
                    self.later(0, Input::LeftBehind(run));
                }
                self.later(wait, Input::Swept(run));
            }
            Output::Inspect(run) => {
                let _ = self.proc(run);
                if self.inspects {
                    let exclusive = self.exclusive;
                    self.later(3, Input::Inspected(run, exclusive));
                }
            }
            Output::Release(run) => {
                let proc = self.procs.remove(&run).expect("released once");
                assert!(
                    proc.exited && (proc.swept || !proc.spec.stop.treekill || self.died),
                    "nothing is left at release"
                );
                assert!(self.released.insert(run));
                self.core.release(run);
            }
            Output::Event(draft) => self.log.push((self.now, *draft)),
            Output::Crash(draft) => assert!(self.disk.contains_key(&draft.app) || draft.pid >= 0),
            Output::Reply(ticket, reply) => {
                assert!(self.asked.contains(&ticket), "answers are to questions");
                assert!(self.replies.insert(ticket, reply).is_none(), "answered once");
            }
        }
    }

    pub(super) fn proc(&mut self, run: RunId) -> &mut Proc {
        self.procs
            .get_mut(&run)
            .expect("outputs are about runs that are not released")
    }

    fn spawn(&mut self, run: RunId, id: AppId, slot: Slot, spec: Arc<AppSpec>) {
        assert!(!self.released.contains(&run), "a run is spawned once");
        if let Some(proc) = self.procs.get(&run) {
            // Asked again after a restart of the daemon: the keeper knows it, or will answer in a moment.
            if proc.spawned {
                let pid = pid_of(run);
                let gone = proc.exited;
                self.later(
                    0,
                    if gone {
                        exited(run, ExitStatus::Code(1))
                    } else {
                        Input::Spawned(run, pid)
                    },
                );
            }
            return;
        }
        if self.core.is_revoked(run) {
            let proc = Proc {
                app: id,
                spec,
                behaviour: Behaviour::of("no-spawn", &mut self.rng),
                spawned: false,
                exited: false,
                told: true,
                swept: false,
            };
            self.procs.insert(run, proc);
            self.later(0, Input::SpawnFailed(run, "not wanted any more".to_owned()));
            return;
        }
        assert!(!self.down, "nothing starts after a shutdown");
        let app = &self.core.apps[&id];
        assert!(app.is_wanted(slot), "only what is wanted starts");
        assert_eq!(
            self.core.owner(run).map(|app| app.id),
            Some(id),
            "the run is in the books"
        );
        // A start that was decided before the circuit opened, and that the dead daemon did not come to.
        if app.rollout.is_none() && !self.resuming {
            assert!(!app.circuit.is_open(), "an open circuit starts nothing");
            assert_eq!(app.runs_in(slot).count(), 1, "a slot is empty before it is filled");
            if app.circuit.is_tripped() {
                let probes = app.runs.values().filter(|run| run.cause.is_none()).count();
                let tried = app
                    .runs
                    .values()
                    .filter(|r| r.pid.is_none() && r.cause.is_none())
                    .count();
                assert!(tried == 1 && probes <= app.desired as usize, "one probe at a time");
            }
        }
        let program = spec.argv[0].to_text().into_owned();
        let behaviour = Behaviour::of(&program, &mut self.rng);
        let wait = self.rng.below(6);
        let answer = if behaviour.starves || self.starving {
            Input::SpawnStarved(run, "clone: no process left".to_owned())
        } else if behaviour.spawns {
            Input::Spawned(run, pid_of(run))
        } else {
            Input::SpawnFailed(run, "exec: no such file".to_owned())
        };
        self.later(wait, answer);
        self.spawns.push((self.now, run, slot));
        let proc = Proc {
            app: id,
            spec,
            behaviour,
            spawned: false,
            exited: false,
            told: false,
            swept: false,
        };
        self.procs.insert(run, proc);
    }
}

pub(super) fn exited(run: RunId, status: ExitStatus) -> Input {
    Input::Exited(run, Exit::bare(status), vec!["last words".to_owned()])
}

pub(super) fn pid_of(run: RunId) -> i32 {
    i32::try_from(run.0).unwrap() + 1000
}

pub(super) fn brief(output: &Output) -> String {
    match output {
        Output::Spawn { run, app, slot, spec } => {
            format!("Spawn {run} app {app} slot {slot} {}", spec.argv[0].to_text())
        }
        Output::Event(draft) => format!("Event {:?} {:?} {}", draft.kind, draft.slot, draft.message),
        Output::Commit(changes) => format!("Commit {}", changes.len()),
        Output::Check(id, _) => format!("Check {id}"),
        Output::Reply(ticket, Ok(_)) => format!("Reply {ticket} ok"),
        Output::Reply(ticket, Err(body)) => format!("Reply {ticket} {}", body.message),
        Output::Probe(_)
        | Output::EndProbe(_)
        | Output::Monitor(_)
        | Output::EndMonitor(_)
        | Output::PreStop(_)
        | Output::Stop(_)
        | Output::Kill(_)
        | Output::Sweep(..)
        | Output::Inspect(_)
        | Output::Release(_)
        | Output::Crash(_) => format!("{output:?}"),
    }
}
