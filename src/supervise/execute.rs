//! What a planned command does, once it is on disk.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::model::event::EventKind;
use crate::model::names::{AppId, RunId, Slot};
use crate::model::outcome::Outcome;
use crate::model::spec::AppSpec;
use crate::supervise::app::App;
use crate::supervise::core::Core;
use crate::supervise::cx::Cx;
use crate::supervise::demand::WAITS;
use crate::supervise::goal::{Goal, GoalKind};
use crate::supervise::input::Ticket;
use crate::supervise::plan::Step;
use crate::supervise::rollout::Purpose;
use crate::supervise::run::Cause;

impl Core {
    /// Does what was planned; the answer follows when its goals are met.
    pub(super) fn execute(&mut self, ticket: Ticket, steps: Vec<Step>) {
        // One open goal of its own, so that the answer waits for the last step.
        self.cx.tickets.expect(ticket);
        for step in steps {
            match step {
                Step::Create(id, spec) => {
                    let app = App::new(id, Arc::clone(&spec), spec.instances, true);
                    self.create(app);
                    self.touch(id, |app, cx| {
                        cx.event(
                            app,
                            EventKind::AppAdded,
                            None,
                            None,
                            crate::supervise::ending::instances(app.desired as usize),
                        );
                        let all: Vec<Slot> = (0..app.desired).collect();
                        app.up(cx, ticket, &all);
                    });
                }
                Step::Respec(id, spec, desired) => self.touch(id, |app, cx| app.respec(cx, spec, desired)),
                Step::Up(id, slots) => self.touch(id, |app, cx| app.up(cx, ticket, &slots)),
                Step::Down(id, slots, whole) => self.touch(id, |app, cx| app.down(cx, ticket, &slots, whole)),
                Step::Restart(id, slots) => self.touch(id, |app, cx| app.restart(cx, ticket, &slots)),
                Step::Rollout(id, spec, keep, shape) => self.touch(id, |app, cx| {
                    if let Some((desired, held)) = shape {
                        app.reshape(cx, desired, held);
                    }
                    app.roll(cx, ticket, spec, keep);
                }),
                Step::Join(id, spec) => self.touch(id, |app, cx| app.join(cx, ticket, &spec)),
                Step::Scale(id, desired) => self.touch(id, |app, cx| app.scale(cx, ticket, desired)),
                Step::Delete(id) => self.touch(id, |app, cx| app.delete(cx, ticket)),
                Step::Reset(id, slots) => self.touch(id, |app, cx| app.reset(cx, ticket, &slots)),
                Step::Shutdown => self.shutdown(ticket),
            }
        }
        self.cx.tickets.meet(ticket, Vec::new());
        if let Some(reply) = self.cx.tickets.settle(ticket) {
            self.cx.emit(reply);
        }
    }

    fn shutdown(&mut self, ticket: Ticket) {
        self.shut_down();
        // What was started last may need what was started first.
        let ids: Vec<AppId> = self.apps.keys().rev().copied().collect();
        for id in ids {
            self.touch(id, |app, cx| {
                app.abort_rollout(cx, "clmgr is shutting down");
                let slots: BTreeSet<Slot> = app.runs.values().map(|run| run.slot).collect();
                for slot in slots {
                    app.expect_down(cx, ticket, slot, Outcome::Stopped);
                }
            });
        }
    }
}

impl App {
    fn expect(&mut self, cx: &mut Cx, ticket: Ticket, kind: GoalKind) {
        cx.tickets.expect(ticket);
        self.goals.push(Goal { ticket, kind });
    }

    fn expect_down(&mut self, cx: &mut Cx, ticket: Ticket, slot: Slot, outcome: Outcome) {
        let through = self.runs_in(slot).map(|run| run.id).max();
        self.expect(cx, ticket, GoalKind::Down { slot, through, outcome });
    }

    fn up(&mut self, cx: &mut Cx, ticket: Ticket, slots: &[Slot]) {
        let was_wanted = self.wanted && slots.iter().all(|slot| !self.held.contains(slot));
        if !self.wanted {
            self.held = (0..self.desired).filter(|slot| !slots.contains(slot)).collect();
            self.wanted = true;
        }
        for slot in slots {
            self.held.remove(slot);
        }
        if self.circuit.is_tripped() {
            self.absolve();
        }
        if self.is_dormant() {
            for slot in slots {
                let record = self.slot_mut(*slot);
                record.absolve();
                let outcome = if was_wanted && record.newest.is_some() {
                    Outcome::Unchanged
                } else {
                    Outcome::Started
                };
                cx.tickets.note(ticket, self.waits(*slot, outcome));
            }
            return;
        }
        let mut idle = Vec::new();
        for slot in slots.iter().copied() {
            let newest = self.slot_mut(slot).newest;
            if self.rollout.as_ref().is_some_and(|rollout| rollout.concerns(slot)) {
                // The replacement under way brings it up.
                self.expect(
                    cx,
                    ticket,
                    GoalKind::Up {
                        slot,
                        after: None,
                        outcome: Outcome::Started,
                    },
                );
                continue;
            }
            match self.current(slot) {
                // The second: it was started while the new spec was being written.
                Some(run) if run.cause.is_some() || run.generation != self.generation => {
                    let id = run.id;
                    self.stop_run(cx, id, Cause::Restart);
                    if let Some(run) = self.runs.get_mut(&id) {
                        run.cause = Some(Cause::Restart);
                    }
                    self.expect(
                        cx,
                        ticket,
                        GoalKind::Up {
                            slot,
                            after: Some(id),
                            outcome: Outcome::Started,
                        },
                    );
                }
                Some(run) if run.ready.is_some() => {
                    let line = self.line(Some(slot), Outcome::Unchanged);
                    cx.tickets.note(ticket, line);
                }
                Some(run) => {
                    let after = run.id.0.checked_sub(1).map(RunId);
                    self.expect(
                        cx,
                        ticket,
                        GoalKind::Up {
                            slot,
                            after,
                            outcome: Outcome::Started,
                        },
                    );
                }
                None => {
                    self.slot_mut(slot).absolve();
                    idle.push(slot);
                    self.expect(
                        cx,
                        ticket,
                        GoalKind::Up {
                            slot,
                            after: newest,
                            outcome: Outcome::Started,
                        },
                    );
                }
            }
        }
        self.bring_up(cx, &idle);
    }

    fn down(&mut self, cx: &mut Cx, ticket: Ticket, slots: &[Slot], whole: bool) {
        if whole {
            self.wanted = false;
            self.demanded = false;
            self.held.clear();
            self.abort_rollout(cx, "stopped by another command meanwhile");
        } else {
            self.abort_rollout(cx, "stopped by another command meanwhile");
            self.held.extend(slots);
        }
        let all: BTreeSet<Slot> = if whole {
            self.runs
                .values()
                .map(|run| run.slot)
                .chain(slots.iter().copied())
                .collect()
        } else {
            slots.iter().copied().collect()
        };
        for slot in all {
            let outcome = if self.runs_in(slot).next().is_some() {
                Outcome::Stopped
            } else {
                Outcome::Unchanged
            };
            self.clear_slot(cx, slot);
            self.expect_down(cx, ticket, slot, outcome);
        }
        if whole {
            self.absolve();
        }
    }

    /// Stops whatever runs in a slot and forgets its plans.
    fn clear_slot(&mut self, cx: &mut Cx, slot: Slot) {
        let runs: Vec<RunId> = self.runs_in(slot).map(|run| run.id).collect();
        for run in runs {
            self.stop_run(cx, run, Cause::Unwanted);
            if let Some(run) = self.runs.get_mut(&run) {
                run.cause = Some(Cause::Unwanted);
            }
        }
        let record = self.slot_mut(slot);
        record.absolve();
        record.unchecked = false;
    }

    fn restart(&mut self, cx: &mut Cx, ticket: Ticket, slots: &[Slot]) {
        self.abort_rollout(cx, "restarted meanwhile");
        if !self.wanted {
            self.held = (0..self.desired).filter(|slot| !slots.contains(slot)).collect();
            self.wanted = true;
        }
        self.pardon(slots);
        for slot in slots {
            self.held.remove(slot);
        }
        if self.is_dormant() {
            for slot in slots {
                cx.tickets.note(ticket, self.waits(*slot, Outcome::Unchanged));
            }
            return;
        }
        let mut idle = Vec::new();
        for slot in slots.iter().copied() {
            let newest = self.slot_mut(slot).newest;
            match self.current(slot).map(|run| run.id) {
                Some(run) => {
                    self.stop_run(cx, run, Cause::Restart);
                    if let Some(run) = self.runs.get_mut(&run) {
                        run.cause = Some(Cause::Restart);
                    }
                }
                None => idle.push(slot),
            }
            self.expect(
                cx,
                ticket,
                GoalKind::Up {
                    slot,
                    after: newest,
                    outcome: Outcome::Restarted,
                },
            );
        }
        self.bring_up(cx, &idle);
    }

    fn respec(&mut self, cx: &mut Cx, spec: Arc<AppSpec>, desired: u32) {
        self.abort_rollout(cx, "the app was changed meanwhile");
        self.recheck = self.checking;
        // What runs goes on to run; what ran without a connection before must not count as asked for by one.
        self.demanded &= self.spec().on_demand.is_some();
        self.demanded |= spec.on_demand.is_some() && self.is_serving();
        let same_but_count = AppSpec {
            instances: self.spec().instances,
            ..AppSpec::clone(&spec)
        } == **self.spec();
        if same_but_count {
            // What runs is of this spec, too.
            self.specs.insert(self.generation, spec);
        } else {
            self.generation = self.add_spec(spec);
        }
        if desired != self.desired {
            self.resize(cx, desired);
        }
        cx.event(self, EventKind::AppChanged, None, None, "the spec was changed");
    }

    fn resize(&mut self, cx: &mut Cx, desired: u32) {
        cx.event(
            self,
            EventKind::Scaled,
            None,
            None,
            format!(
                "{} to {}",
                self.desired,
                crate::supervise::ending::instances(desired as usize)
            ),
        );
        self.desired = desired;
        self.held.retain(|slot| *slot < desired);
        if desired > 0 {
            self.slot_mut(desired - 1);
        }
        let surplus: BTreeSet<Slot> = self
            .runs
            .values()
            .map(|run| run.slot)
            .filter(|slot| *slot >= desired)
            .collect();
        for slot in surplus {
            self.clear_slot(cx, slot);
        }
    }

    fn roll(&mut self, cx: &mut Cx, ticket: Ticket, spec: Arc<AppSpec>, keep: bool) {
        self.abort_rollout(cx, "another replacement began");
        if self.circuit.is_tripped() {
            self.absolve();
        }
        // What runs now goes on to run, also where only a connection starts it from now on.
        self.demanded |= spec.on_demand.is_some() && self.spec().on_demand.is_none();
        let to = if *spec == **self.spec() {
            self.generation
        } else {
            self.add_spec(spec)
        };
        self.expect(cx, ticket, GoalKind::Rollout);
        let slots: Vec<Slot> = self.wanted_slots().collect();
        self.begin_rollout(cx, Purpose::Reload, to, slots, keep);
    }

    /// Waits for the rollout that was under way when the command was planned. It may be over by now.
    fn join(&mut self, cx: &mut Cx, ticket: Ticket, spec: &Arc<AppSpec>) {
        if self.user_rollout().is_some() {
            self.expect(cx, ticket, GoalKind::Rollout);
        } else if self.spec() == spec {
            cx.tickets.note(ticket, self.line(None, Outcome::Reloaded));
        } else {
            let line = self.failed(None, "the reload it waited for has failed", Vec::new());
            cx.tickets.note(ticket, line);
        }
    }

    /// Changes what is wanted and leaves it to the rollout that follows to fill it.
    fn reshape(&mut self, cx: &mut Cx, desired: u32, held: Vec<Slot>) {
        self.abort_rollout(cx, "the app was changed meanwhile");
        self.held = held.into_iter().collect();
        if desired != self.desired {
            self.resize(cx, desired);
        }
    }

    fn scale(&mut self, cx: &mut Cx, ticket: Ticket, desired: u32) {
        if desired == self.desired {
            cx.tickets.note(ticket, self.line(None, Outcome::Unchanged));
            return;
        }
        self.abort_rollout(cx, "scaled meanwhile");
        let before = self.desired;
        self.resize(cx, desired);
        for slot in desired..before {
            self.expect_down(cx, ticket, slot, Outcome::Stopped);
        }
        let added: Vec<Slot> = (before..desired).collect();
        if !self.wanted {
            let mut line = self.line(None, Outcome::Scaled);
            line.message = Some(format!("stopped; it will start with {desired}"));
            cx.tickets.note(ticket, line);
        } else if self.is_dormant() {
            let mut line = self.line(None, Outcome::Scaled);
            line.message = Some(format!("{WAITS}; it will start with {desired}"));
            cx.tickets.note(ticket, line);
        } else if self.circuit.is_tripped() {
            let why = "the circuit is open: nothing is started before it closes; `reset` and `restart` close it";
            cx.tickets.note(ticket, self.failed(None, why, Vec::new()));
        } else {
            self.bring_up_for(cx, ticket, &added);
        }
    }

    fn bring_up_for(&mut self, cx: &mut Cx, ticket: Ticket, slots: &[Slot]) {
        for slot in slots.iter().copied() {
            let newest = self.slot_mut(slot).newest;
            // A slot that is still being emptied by an earlier scale down starts when it is empty.
            let current = self.current(slot).map(|run| run.id);
            if let Some(run) = current.and_then(|run| self.runs.get_mut(&run)) {
                run.cause = Some(Cause::Restart);
            }
            self.expect(
                cx,
                ticket,
                GoalKind::Up {
                    slot,
                    after: newest,
                    outcome: Outcome::Started,
                },
            );
        }
        self.bring_up(cx, slots);
    }

    fn delete(&mut self, cx: &mut Cx, ticket: Ticket) {
        self.abort_rollout(cx, "deleted meanwhile");
        self.deleting = true;
        self.wanted = false;
        let slots: BTreeSet<Slot> = self.runs.values().map(|run| run.slot).collect();
        for slot in slots {
            self.clear_slot(cx, slot);
        }
        self.absolve();
        self.expect(cx, ticket, GoalKind::Gone);
    }

    fn reset(&mut self, cx: &mut Cx, ticket: Ticket, slots: &[Slot]) {
        // What has completed stays so: resetting is not starting.
        let completed: Vec<bool> = self.slots.iter().map(|record| record.completed).collect();
        self.pardon(slots);
        for (record, completed) in self.slots.iter_mut().zip(completed) {
            record.completed = completed;
        }
        for slot in slots {
            self.slot_mut(*slot).restarts = 0;
            cx.tickets.note(ticket, self.line(Some(*slot), Outcome::Reset));
        }
    }

    /// Nothing is left of a deleted app: the last event, and the answers.
    pub(super) fn farewell(&mut self, cx: &mut Cx) {
        cx.event(self, EventKind::AppDeleted, None, None, "deleted");
        for goal in std::mem::take(&mut self.goals) {
            let mut line = match goal.kind {
                GoalKind::Gone => self.line(None, Outcome::Deleted),
                GoalKind::Down { slot, outcome, .. } => self.line(Some(slot), outcome),
                GoalKind::Up { slot, .. } => {
                    self.failed(Some(slot), "deleted by another command meanwhile", Vec::new())
                }
                GoalKind::Rollout => self.failed(None, "deleted by another command meanwhile", Vec::new()),
            };
            line.state = None;
            cx.tickets.meet(goal.ticket, vec![line]);
            if let Some(reply) = cx.tickets.settle(goal.ticket) {
                cx.emit(reply);
            }
        }
    }

    /// While shutting down, nothing runs that is not being stopped, and nothing is planned.
    pub(super) fn stop_strays(&mut self, cx: &mut Cx) {
        let strays: Vec<RunId> = self.runs.keys().rev().copied().collect();
        for run in strays {
            self.stop_run(cx, run, Cause::Replaced);
            if let Some(run) = self.runs.get_mut(&run) {
                run.cause = Some(Cause::Replaced);
            }
        }
        for record in &mut self.slots {
            record.next_start = None;
            record.unchecked = false;
        }
    }
}
