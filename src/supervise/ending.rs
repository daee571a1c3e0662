//! How a rollout ends: in force, gone back, or given up; and what is answered.

use crate::model::event::EventKind;
use crate::model::names::{RunId, Slot};
use crate::model::outcome::{InstanceResult, Outcome};
use crate::supervise::app::App;
use crate::supervise::cx::Cx;
use crate::supervise::goal::GoalKind;
use crate::supervise::output::Output;
use crate::supervise::rollout::{Purpose, Rollout};
use crate::supervise::run::Cause;

/// `1 instance`, `2 instances`.
#[must_use]
pub(super) fn instances(count: usize) -> String {
    if count == 1 {
        "1 instance".to_owned()
    } else {
        format!("{count} instances")
    }
}

impl App {
    /// The new spec is on disk (or needed no writing): the new generation is in force.
    pub fn rollout_written(&mut self, cx: &mut Cx) {
        if let Some(to) = self
            .rollout
            .as_ref()
            .filter(|rollout| rollout.finishing)
            .map(|rollout| rollout.to)
        {
            self.generation = to;
            self.end_rollout(cx);
        }
    }

    pub fn end_rollout(&mut self, cx: &mut Cx) {
        let Some(rollout) = self.rollout.take() else { return };
        self.prune();
        let lines = self.rollout_lines(&rollout);
        match (&rollout.failure, rollout.purpose) {
            (None, Purpose::Reload) => cx.event(
                self,
                EventKind::ReloadDone,
                None,
                None,
                format!("{} replaced", instances(rollout.done.len())),
            ),
            (None, Purpose::Memory | Purpose::Health | Purpose::Recycle) => {
                self.rest_after(cx, rollout.purpose, rollout.done.first().copied(), false);
            }
            (Some(failure), purpose) => {
                self.rest_after(cx, purpose, rollout.only.or(failure.slot), true);
                let (kind, kept) = if rollout.rolling_back {
                    (EventKind::ReloadRolledBack, self.serving())
                } else {
                    (EventKind::ReloadFailed, "the new generation was kept".to_owned())
                };
                let mut draft = Cx::draft(self, kind, failure.slot, None, format!("{}; {kept}", failure.message));
                draft.stderr.clone_from(&failure.stderr);
                cx.emit(Output::Event(Box::new(draft)));
            }
        }
        let (met, open) = std::mem::take(&mut self.goals)
            .into_iter()
            .partition(|goal| matches!(goal.kind, GoalKind::Rollout));
        self.goals = open;
        for goal in met {
            cx.tickets.meet(goal.ticket, lines.clone());
            if let Some(reply) = cx.tickets.settle(goal.ticket) {
                cx.emit(reply);
            }
        }
        let missing: Vec<Slot> = self
            .wanted_slots()
            .filter(|slot| {
                self.slots.get(*slot as usize).is_none_or(|record| {
                    record.next_start.is_none() && !record.completed && !record.circuit.is_tripped()
                })
            })
            .collect();
        if !self.circuit.is_tripped() {
            self.bring_up(cx, &missing);
        }
    }

    /// What is left after going back: everything, or what of it. An instance that had to be stopped first may
    /// fail to come back, when what it runs was changed on disk.
    fn serving(&self) -> String {
        let wanted = self.wanted_slots().count();
        let serving = self
            .wanted_slots()
            .filter(|slot| self.current(*slot).is_some_and(crate::supervise::run::Run::is_serving))
            .count();
        if serving == wanted {
            "the old generation keeps serving".to_owned()
        } else {
            format!("{serving} of {} of the old generation keep serving", instances(wanted))
        }
    }

    fn rollout_lines(&self, rollout: &Rollout) -> Vec<InstanceResult> {
        let outcome = if rollout.failure.is_some() && rollout.rolling_back {
            Outcome::Unchanged
        } else {
            Outcome::Reloaded
        };
        let mut lines: Vec<InstanceResult> = self.wanted_slots().map(|slot| self.line(Some(slot), outcome)).collect();
        if let Some(failure) = &rollout.failure {
            let kept = if rollout.rolling_back {
                self.serving()
            } else {
                "the new generation was kept as asked".to_owned()
            };
            let failed = self.failed(
                failure.slot,
                format!("{}; {kept}", failure.message),
                failure.stderr.clone(),
            );
            match lines
                .iter_mut()
                .find(|line| failure.slot.is_some() && line.slot == failure.slot)
            {
                Some(line) => {
                    *line = InstanceResult {
                        pid: line.pid,
                        state: line.state,
                        ..failed
                    }
                }
                None => lines.push(failed),
            }
        }
        lines
    }

    /// Gives a rollout up because something stronger happens to the app. Runs that were to come are stopped.
    pub fn abort_rollout(&mut self, cx: &mut Cx, why: &str) {
        let Some(rollout) = self.rollout.take() else { return };
        self.recheck |= rollout.checking && self.checking;
        let incoming: Vec<RunId> = self
            .slots
            .iter_mut()
            .filter_map(|record| record.incoming.take())
            .collect();
        for run in incoming {
            self.stop_run(cx, run, Cause::Replaced);
        }
        let (met, open) = std::mem::take(&mut self.goals)
            .into_iter()
            .partition(|goal| matches!(goal.kind, GoalKind::Rollout));
        self.goals = open;
        for goal in met {
            cx.tickets.meet(goal.ticket, vec![self.failed(None, why, Vec::new())]);
            if let Some(reply) = cx.tickets.settle(goal.ticket) {
                cx.emit(reply);
            }
        }
    }

    /// Whatever the user allowed: what cannot be written cannot be kept.
    pub fn forbid_keeping(&mut self) {
        if let Some(rollout) = self.rollout.as_mut() {
            rollout.keep = false;
        }
    }
}
