//! The one way to the store thread.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::api::status::Crash;
use crate::model::event::Event;
use crate::model::names::AppId;
use crate::store::error::StoreError;
use crate::store::note::thin_out;
use crate::store::query::EventQuery;
use crate::store::state::{Change, Note};

/// Called exactly once: on the store thread, or on the caller's if the store is closed already.
pub type Reply<T> = Box<dyn FnOnce(Result<T, StoreError>) + Send>;

/// One thing to do.
pub(crate) enum Job {
    Commit(Vec<Change>, Reply<()>),
    Note(Note),
    Events(EventQuery, Reply<Vec<Event>>),
    Crashes(AppId, u32, Reply<Vec<Crash>>),
    Flush(Reply<()>),
    Write(Reply<()>),
    /// Another process opens the file at once: end without the disk.
    HandOver,
    /// Runs on the store thread with its connection.
    #[cfg(test)]
    Inspect(Box<dyn FnOnce(&rusqlite::Connection) + Send>),
}

impl Job {
    fn note(&self) -> Option<&Note> {
        match self {
            Self::Note(note) => Some(note),
            Self::Commit(..)
            | Self::Events(..)
            | Self::Crashes(..)
            | Self::Flush(_)
            | Self::Write(_)
            | Self::HandOver => None,
            #[cfg(test)]
            Self::Inspect(_) => None,
        }
    }

    /// Answers that nothing will be done.
    pub(crate) fn refuse(self) {
        match self {
            Self::Commit(_, reply) | Self::Flush(reply) | Self::Write(reply) => reply(Err(StoreError::Closed)),
            Self::Events(_, reply) => reply(Err(StoreError::Closed)),
            Self::Crashes(_, _, reply) => reply(Err(StoreError::Closed)),
            Self::Note(_) | Self::HandOver => {}
            #[cfg(test)]
            Self::Inspect(_) => {}
        }
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Commit(..) => "Commit",
            Self::Note(_) => "Note",
            Self::Events(..) => "Events",
            Self::Crashes(..) => "Crashes",
            Self::Flush(_) => "Flush",
            Self::Write(_) => "Write",
            Self::HandOver => "HandOver",
            #[cfg(test)]
            Self::Inspect(_) => "Inspect",
        })
    }
}

/// Entries in the queue at which it is thinned out for the first time.
const THIN_OUT_AT: usize = 4096;
/// How long notes gather before they are written.
const GATHER: Duration = Duration::from_millis(25);

#[derive(Debug)]
struct Inside {
    jobs: VecDeque<Job>,
    /// Nobody waits for an answer to any of them.
    unhurried: bool,
    thin_out_at: usize,
    lost_events: u64,
    closed: bool,
}

/// What the thread found.
#[derive(Debug)]
pub(crate) struct Taken {
    /// In order; empty when the time ran out.
    pub(crate) jobs: VecDeque<Job>,
    /// Events that were thinned out since the last time.
    pub(crate) lost_events: u64,
    /// Nothing will come after these.
    pub(crate) closed: bool,
}

#[derive(Debug)]
pub(crate) struct Queue {
    inside: Mutex<Inside>,
    filled: Condvar,
}

impl Queue {
    pub(crate) fn new() -> Self {
        Self {
            inside: Mutex::new(Inside {
                jobs: VecDeque::new(),
                unhurried: true,
                thin_out_at: THIN_OUT_AT,
                lost_events: 0,
                closed: false,
            }),
            filled: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Never blocks for longer than another `push` or `take` needs.
    pub(crate) fn push(&self, job: Job) {
        let mut inside = self.lock();
        if inside.closed {
            drop(inside);
            job.refuse();
            return;
        }
        let first = inside.jobs.is_empty();
        let hurried = job.note().is_none();
        inside.unhurried &= !hurried;
        inside.jobs.push_back(job);
        if inside.jobs.len() >= inside.thin_out_at {
            inside.lost_events += thin_out(&mut inside.jobs, Job::note);
            // Doubling keeps the cost per entry constant.
            inside.thin_out_at = (inside.jobs.len() * 2).max(THIN_OUT_AT);
        }
        drop(inside);
        if first || hurried {
            self.filled.notify_one();
        }
    }

    /// Nothing more is taken in.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_one();
    }

    /// Waits for something to do, at most so long, and takes all of it. Notes alone are left to gather for a
    /// moment: a burst of them becomes one transaction.
    pub(crate) fn take(&self, at_most: Option<Duration>) -> Taken {
        let idle = |inside: &mut Inside| inside.jobs.is_empty() && !inside.closed;
        let unhurried = |inside: &mut Inside| inside.unhurried && !inside.closed;
        let inside = self.lock();
        let mut inside = match at_most {
            None => self
                .filled
                .wait_while(inside, idle)
                .unwrap_or_else(PoisonError::into_inner),
            Some(time) => {
                self.filled
                    .wait_timeout_while(inside, time, idle)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0
            }
        };
        if unhurried(&mut inside) && !inside.jobs.is_empty() {
            inside = self
                .filled
                .wait_timeout_while(inside, GATHER, unhurried)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        inside.thin_out_at = THIN_OUT_AT;
        inside.unhurried = true;
        Taken {
            jobs: std::mem::take(&mut inside.jobs),
            lost_events: std::mem::take(&mut inside.lost_events),
            closed: inside.closed,
        }
    }
}
