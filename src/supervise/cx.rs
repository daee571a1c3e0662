//! What the core's parts share while one input is handled: the time, the outbox, the run numbers.

use std::collections::VecDeque;

use crate::model::event::EventKind;
use crate::model::names::{AppId, RunId, Slot};
use crate::model::time::Moment;
use crate::supervise::app::App;
use crate::supervise::goal::Tickets;
use crate::supervise::output::{EventDraft, Output};
use crate::supervise::policy::lost_order::Inheritance;

/// Shared while one input is handled.
#[derive(Debug)]
pub struct Cx {
    /// The time of the input.
    pub now: Moment,
    /// What is to be done.
    pub out: VecDeque<Output>,
    /// Answers in the making.
    pub tickets: Tickets,
    /// Rollouts that wait for their spec to be written.
    pub finished_rollouts: VecDeque<AppId>,
    /// What there is of a daemon before this one.
    pub inheritance: Option<Inheritance>,
    next_run: u64,
}

impl Cx {
    /// Run numbers begin with `first_run`.
    #[must_use]
    pub fn new(first_run: u64) -> Self {
        Self {
            now: Moment::default(),
            out: VecDeque::new(),
            tickets: Tickets::default(),
            finished_rollouts: VecDeque::new(),
            inheritance: None,
            next_run: first_run,
        }
    }

    /// To be done.
    pub fn emit(&mut self, output: Output) {
        self.out.push_back(output);
    }

    /// A number no run had before.
    pub fn next_run(&mut self) -> RunId {
        let run = RunId(self.next_run);
        self.next_run += 1;
        run
    }

    /// The number the next run will have.
    #[must_use]
    pub const fn peek_run(&self) -> u64 {
        self.next_run
    }

    /// Makes sure that `run` is not given again.
    pub fn skip_run(&mut self, run: RunId) {
        self.next_run = self.next_run.max(run.0 + 1);
    }

    /// Something happened to an app.
    pub fn event(
        &mut self,
        app: &App,
        kind: EventKind,
        slot: Option<Slot>,
        pid: Option<i32>,
        message: impl Into<String>,
    ) {
        let draft = Self::draft(app, kind, slot, pid, message);
        self.emit(Output::Event(Box::new(draft)));
    }

    /// An event to be completed.
    #[must_use]
    pub fn draft(
        app: &App,
        kind: EventKind,
        slot: Option<Slot>,
        pid: Option<i32>,
        message: impl Into<String>,
    ) -> EventDraft {
        EventDraft {
            kind,
            id: app.id,
            app: app.name().clone(),
            namespace: app.spec().namespace.clone(),
            slot,
            pid,
            message: message.into(),
            exit: None,
            stderr: Vec::new(),
        }
    }
}
