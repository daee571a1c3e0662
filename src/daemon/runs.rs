//! What the daemon holds of each living run: descriptors, probes, and what its label says.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::task::AbortHandle;

use crate::daemon::channel::Wire;
use crate::daemon::custom::Custom;
use crate::keeper::protocol::Held;
use crate::model::exit::Exit;
use crate::model::names::{AppId, RunId, Slot};
use crate::os::pidfd::Scope;
use crate::os::tree::Member;
use crate::os::{fds, procfs};
use crate::supervise::run::Generation;

/// What a run carries through the keeper, so that a new daemon knows whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Label {
    /// Its app; none for helpers (probes, hooks, alerts).
    pub app: Option<AppId>,
    /// Its slot.
    pub slot: Slot,
    /// The spec it was started from.
    pub generation: Generation,
    /// It is on the second lane of its slot.
    #[serde(default)]
    pub second: bool,
}

/// One run.
#[derive(Debug)]
pub(crate) struct Handle {
    pub app: AppId,
    pub slot: Slot,
    pub pid: i32,
    pub pidfd: Arc<OwnedFd>,
    pub stdin: Option<Arc<OwnedFd>>,
    pub channel: Option<Arc<OwnedFd>>,
    /// The way to the task that reads and writes the channel, until the app closes it.
    pub wire: Option<Wire>,
    /// When it began, in clock ticks since boot; the time it was attached if it was gone by then.
    pub born: u64,
    /// Inode numbers of its pipes.
    pub pipes: Vec<u64>,
    /// Descendants seen when it was told to stop: those that leave its session are found by this.
    pub members: Vec<Member>,
    /// The readiness watch.
    pub tasks: Vec<AbortHandle>,
    /// What it tells over its channel.
    pub custom: Custom,
    /// Known, but its last output is still being written.
    pub exit: Option<Exit>,
}

impl Handle {
    /// Who gets a signal for the whole group: a process that a run became later (`MAINPID`) may lead none.
    pub(crate) fn scope(&self) -> Scope {
        let follows = procfs::stat(self.pid).is_some_and(|stat| stat.pgrp != self.pid);
        if follows { Scope::Process } else { Scope::Group }
    }

    /// Ends what watches it.
    pub(crate) fn end_tasks(&mut self) {
        for task in self.tasks.drain(..) {
            task.abort();
        }
    }
}

/// The descriptors that came with a child.
#[derive(Debug, Default)]
pub(crate) struct Pipes {
    pub pidfd: Option<OwnedFd>,
    pub out: Option<OwnedFd>,
    pub err: Option<OwnedFd>,
    pub stdin: Option<OwnedFd>,
    pub channel: Option<OwnedFd>,
}

impl Pipes {
    /// The inode numbers of its standard input, output and error.
    pub(crate) fn inodes(&self) -> Vec<u64> {
        let all = [&self.stdin, &self.out, &self.err];
        all.into_iter().flatten().filter_map(|fd| fds::inode(fd).ok()).collect()
    }

    /// Takes one child's descriptors from the front of a message's.
    pub(crate) fn take(held: Held, fds: &mut impl Iterator<Item = OwnedFd>) -> Self {
        let mut next = |what| if held.has(what) { fds.next() } else { None };
        Self {
            pidfd: next(Held::PIDFD),
            out: next(Held::OUT),
            err: next(Held::ERR),
            stdin: next(Held::STDIN),
            channel: next(Held::CHANNEL),
        }
    }
}

/// Runs of helpers are numbered from here, far above any app's.
pub(crate) const FIRST_HELPER: u64 = 1 << 62;

/// True for a probe, hook or alert command.
pub(crate) const fn is_helper(run: RunId) -> bool {
    run.0 >= FIRST_HELPER
}
