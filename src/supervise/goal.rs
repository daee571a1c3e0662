//! Who waits for what: the link between a request's ticket and the state that answers it.

use std::collections::BTreeMap;

use crate::model::names::{RunId, Slot};
use crate::model::outcome::{ErrorBody, ErrorKind, InstanceResult, Outcome};
use crate::model::state::State;
use crate::supervise::app::App;
use crate::supervise::input::Ticket;
use crate::supervise::output::Output;
use crate::supervise::run::{Phase, Run};

/// What is said about a process that SIGKILL does not end.
const STUCK: &str = "still there 10 s after SIGKILL: it is blocked inside the kernel";
/// The same of its descendants; only the daemon knows their pids.
const LEFTOVERS_STUCK: &str =
    "it ended, but a process that it left is still there 10 s after SIGKILL: see `clmgr events` for its pid";

fn stuck(run: &Run) -> &'static str {
    if run.is_live() { STUCK } else { LEFTOVERS_STUCK }
}

/// Something a request waits for.
#[derive(Clone, Debug)]
pub struct Goal {
    /// Whose.
    pub ticket: Ticket,
    /// What.
    pub kind: GoalKind,
}

/// What a request can wait for.
#[derive(Clone, Debug)]
pub enum GoalKind {
    /// A run of this slot newer than `after` is ready, or has failed.
    Up {
        /// Which instance.
        slot: Slot,
        /// Only runs after this one count.
        after: Option<RunId>,
        /// What is reported.
        outcome: Outcome,
    },
    /// Nothing is left of what ran in this slot, whatever was started in it since.
    Down {
        /// Which instance.
        slot: Slot,
        /// Only runs up to this one count.
        through: Option<RunId>,
        /// What is reported.
        outcome: Outcome,
    },
    /// The app is gone.
    Gone,
    /// The rollout is over. Met by the rollout itself.
    Rollout,
}

/// An answer in the making.
#[derive(Debug, Default)]
struct Pending {
    /// Goals not met yet.
    open: usize,
    /// What is known.
    lines: Vec<InstanceResult>,
}

/// All answers in the making.
#[derive(Debug, Default)]
pub struct Tickets {
    pending: BTreeMap<Ticket, Pending>,
}

impl Tickets {
    /// One more goal for this ticket.
    pub fn expect(&mut self, ticket: Ticket) {
        self.pending.entry(ticket).or_default().open += 1;
    }

    /// A line without a goal.
    pub fn note(&mut self, ticket: Ticket, line: InstanceResult) {
        self.pending.entry(ticket).or_default().lines.push(line);
    }

    /// A goal is met.
    pub fn meet(&mut self, ticket: Ticket, lines: Vec<InstanceResult>) {
        let pending = self.pending.entry(ticket).or_default();
        pending.open = pending.open.saturating_sub(1);
        pending.lines.extend(lines);
    }

    /// The answer, if nothing is open any more.
    pub fn settle(&mut self, ticket: Ticket) -> Option<Output> {
        if self.pending.get(&ticket).is_some_and(|pending| pending.open > 0) {
            return None;
        }
        let mut lines = self.pending.remove(&ticket)?.lines;
        lines.sort_by_key(|line| (line.id, line.slot));
        let failed = lines.iter().filter(|line| line.outcome == Outcome::Failed).count();
        let reply = if failed == 0 {
            Ok(lines)
        } else {
            Err(Box::new(failure(failed, lines)))
        };
        Some(Output::Reply(ticket, reply))
    }
}

fn failure(failed: usize, lines: Vec<InstanceResult>) -> ErrorBody {
    let first = lines.iter().find(|line| line.outcome == Outcome::Failed);
    let what = first.map_or_else(String::new, |line| {
        let slot = line.slot.map_or_else(String::new, |slot| format!(":{slot}"));
        format!("{}{slot}: {}", line.app, line.message.as_deref().unwrap_or("failed"))
    });
    let message = if failed == 1 {
        what
    } else {
        format!("{what} (and {} more failed)", failed - 1)
    };
    let hint = first.map(|line| format!("clmgr describe {}", line.app));
    ErrorBody {
        kind: ErrorKind::Failed,
        message,
        hints: hint.into_iter().collect(),
        results: lines,
    }
}

impl App {
    /// A result line about this app.
    #[must_use]
    pub fn line(&self, slot: Option<Slot>, outcome: Outcome) -> InstanceResult {
        InstanceResult {
            id: self.id,
            app: self.name().clone(),
            slot,
            pid: slot.and_then(|slot| self.current(slot)).and_then(|run| run.pid),
            outcome,
            state: Some(slot.map_or_else(|| self.state(), |slot| self.slot_state(slot))),
            message: None,
            stderr: Vec::new(),
            reply: None,
        }
    }

    /// A failed line.
    #[must_use]
    pub fn failed(&self, slot: Option<Slot>, message: impl Into<String>, stderr: Vec<String>) -> InstanceResult {
        InstanceResult {
            message: Some(message.into()),
            stderr,
            ..self.line(slot, Outcome::Failed)
        }
    }

    /// Whether a goal is met, and how.
    #[must_use]
    pub fn judge(&self, goal: &GoalKind) -> Option<InstanceResult> {
        match *goal {
            GoalKind::Up { slot, after, outcome } => self.judge_up(slot, after, outcome),
            GoalKind::Down { slot, through, outcome } => {
                // The usual case, without a look at all runs: thousands may wait at once.
                if self
                    .current(slot)
                    .is_some_and(|run| Some(run.id) <= through && !run.is_stuck())
                {
                    return None;
                }
                let mut left = self.runs_in(slot).filter(|run| Some(run.id) <= through).peekable();
                if left.peek().is_none() {
                    return Some(self.line(Some(slot), outcome));
                }
                left.find(|run| run.is_stuck())
                    .map(|run| self.failed(Some(slot), stuck(run), Vec::new()))
            }
            GoalKind::Gone => self
                .runs
                .values()
                .find(|run| run.is_stuck())
                .map(|run| self.failed(Some(run.slot), stuck(run), Vec::new())),
            GoalKind::Rollout => None,
        }
    }

    fn judge_up(&self, slot: Slot, after: Option<RunId>, outcome: Outcome) -> Option<InstanceResult> {
        if self.draining {
            return Some(self.failed(Some(slot), "clmgr is shutting down", Vec::new()));
        }
        if self.is_dormant() {
            return Some(self.waits(slot, outcome));
        }
        if !self.is_wanted(slot) {
            return Some(self.failed(Some(slot), "stopped by another command meanwhile", Vec::new()));
        }
        let record = self.slots.get(slot as usize)?;
        let is_new = |run: Option<RunId>| run.is_some() && run > after;
        if let Some(run) = self.current(slot) {
            if run.is_stuck() {
                return Some(self.failed(Some(slot), stuck(run), Vec::new()));
            }
            return (is_new(Some(run.id)) && run.phase == Phase::Online && run.cause.is_none())
                .then(|| self.line(Some(slot), outcome));
        }
        if self.runs_in(slot).next().is_some() {
            return None;
        }
        match self.slot_state(slot) {
            State::Completed if record.last_exit.is_some_and(|exit| exit.is_success()) => {
                Some(self.line(Some(slot), outcome))
            }
            State::Completed | State::Backoff | State::Errored => {
                let reason = record.reason.clone().or_else(|| self.reason.clone());
                Some(self.failed(
                    Some(slot),
                    reason.unwrap_or_else(|| "it ended".to_owned()),
                    record.stderr.clone(),
                ))
            }
            State::Waiting
            | State::Starting
            | State::Online
            | State::Unhealthy
            | State::Reloading
            | State::Stopping
            | State::Stopped => None,
        }
    }
}
