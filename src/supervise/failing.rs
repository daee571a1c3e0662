//! A rollout that fails: what counts as a failure, and the way back.

use crate::model::names::{RunId, Slot};
use crate::model::spec::Order;
use crate::supervise::app::App;
use crate::supervise::cx::Cx;
use crate::supervise::rollout::{Failure, Step};
use crate::supervise::run::{Cause, Run};

impl App {
    /// A new instance is gone before it was in service.
    pub(super) fn incoming_failed(&mut self, cx: &mut Cx, run: &Run, spawn_error: Option<String>) {
        let slot = run.slot;
        let timeout = self.patience(run);
        let message = match (&run.cause, &spawn_error) {
            (_, Some(error)) => error.clone(),
            (Some(Cause::NotReady), None) => format!("not ready after {timeout}"),
            (Some(Cause::Unwanted | Cause::Restart | Cause::Replaced) | None, None) if run.ready.is_some() => {
                run.ending(" after it was ready, before it had been healthy for min_healthy")
            }
            (Some(Cause::Unwanted | Cause::Restart | Cause::Replaced) | None, None) => {
                run.ending(" before it was ready")
            }
        };
        let Some(rollout) = self.rollout.as_mut() else { return };
        if rollout.rolling_back || rollout.keep {
            // The last resort: the slot goes back to the restart law.
            if !rollout.rolling_back {
                rollout.done.push(slot);
            }
            let failure = Failure {
                slot: Some(slot),
                message,
                stderr: run.brief(),
            };
            let first = rollout.failure.is_none();
            if first {
                rollout.failure = Some(failure);
            }
            let goal = rollout.goal();
            let current = self.current(slot).map(|run| (run.id, run.generation));
            if let Some((old, _)) = current.filter(|(_, generation)| *generation != goal) {
                self.keep_crash_of(cx, run);
                if let Some(rollout) = self.rollout.as_mut() {
                    rollout.active.insert(slot, Step::Retiring(old));
                }
                self.stop_run(cx, old, Cause::Replaced);
            } else if self.current(slot).is_none() && self.is_wanted(slot) {
                self.after_failure(cx, run, spawn_error);
            } else {
                self.keep_crash_of(cx, run);
            }
            return;
        }
        self.keep_crash_of(cx, run);
        if self.current(slot).is_none() {
            self.requeue(slot);
        }
        self.fail_rollout(
            cx,
            Failure {
                slot: Some(slot),
                message,
                stderr: run.brief(),
            },
        );
    }

    /// The slot is to be done (again).
    pub(super) fn requeue(&mut self, slot: Slot) {
        if let Some(rollout) = self.rollout.as_mut()
            && !rollout.queue.contains(&slot)
        {
            rollout.queue.push_back(slot);
        }
    }

    /// The new generation is no good: turn round.
    pub fn fail_rollout(&mut self, cx: &mut Cx, why: Failure) {
        let Some(rollout) = self.rollout.as_mut() else { return };
        if rollout.rolling_back {
            return;
        }
        if rollout.keep {
            rollout.failure.get_or_insert(why);
            return;
        }
        rollout.failure.get_or_insert(why);
        // If the answer about the running instance never came, the way back does not wait for it.
        rollout.inspecting = None;
        self.recheck |= std::mem::take(&mut rollout.checking) && self.checking;
        rollout.order.get_or_insert(Order::StartFirst);
        rollout.rolling_back = true;
        rollout.finishing = false;
        rollout.watch_until = None;
        rollout.deadline = None;
        let to = rollout.to;
        let untouched: Vec<Slot> = rollout.queue.drain(..).collect();
        let proving: Vec<(Slot, RunId)> = rollout
            .active
            .iter()
            .filter_map(|(slot, step)| match step {
                Step::Proving { run, .. } => Some((*slot, *run)),
                Step::Clearing(_) | Step::Retiring(_) | Step::Abandoning(_) => None,
            })
            .collect();
        let only = rollout.only;
        let same_generation = rollout.from == to;
        let mut back: Vec<Slot> = std::mem::take(&mut rollout.done);
        if same_generation {
            // Nothing to go back to for slots that were replaced and work.
            back.clear();
        }
        for (slot, run) in proving {
            if let Some(rollout) = self.rollout.as_mut() {
                rollout.active.insert(slot, Step::Abandoning(run));
            }
            self.stop_run(cx, run, Cause::Replaced);
        }
        back.extend(untouched.into_iter().filter(|slot| self.current(*slot).is_none()));
        let empty: Vec<Slot> = self
            .wanted_slots()
            .filter(|slot| only.is_none_or(|only| only == *slot) && self.runs_in(*slot).next().is_none())
            .filter(|slot| self.slots.get(*slot as usize).is_none_or(|record| !record.completed))
            .collect();
        back.extend(empty);
        back.sort_unstable();
        back.dedup();
        for slot in back {
            let restarting = self
                .slots
                .get(slot as usize)
                .is_some_and(|record| record.next_start.is_some() || record.circuit.is_tripped());
            if !restarting {
                self.requeue(slot);
            }
        }
        self.advance(cx);
    }
}
