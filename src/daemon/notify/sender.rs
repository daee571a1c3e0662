//! Which run a process belongs to: by what the kernel says of it, not by what it says itself.
//!
//! In this order: it leads a run; its session or one of its ancestors is a leader's; it was orphaned to the keeper and
//! carries the mark of a run in its environment. A process that sends once more is known by its identity, also when it
//! is gone by the time its message is read.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, OwnedFd};

use crate::daemon::Daemon;
use crate::daemon::spawning::MARKER;
use crate::model::names::RunId;
use crate::os::{pidfd, procfs};

/// Deepest tree in which a sender is looked for.
const DEPTH: usize = 32;
/// Senders that are remembered.
const REMEMBERED: usize = 1024;

/// Senders that were looked up, by [`pidfd::identity`].
#[derive(Debug, Default)]
pub(crate) struct Senders {
    known: BTreeMap<u64, RunId>,
    order: VecDeque<u64>,
}

impl Senders {
    fn remember(&mut self, identity: u64, run: RunId) {
        if self.known.insert(identity, run).is_none() {
            self.order.push_back(identity);
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

impl Daemon {
    /// The run of the process that sent a message.
    pub(crate) fn run_of_sender(&mut self, pid: i32, process: Option<&OwnedFd>) -> Option<RunId> {
        let identity = process.and_then(pidfd::identity);
        let known = identity.and_then(|identity| self.notify.senders.known.get(&identity).copied());
        if let Some(run) = known.filter(|run| self.handles.contains_key(run)) {
            return Some(run);
        }
        let run = self.run_of_process(pid, identity)?;
        // What was looked at is the sender only if nobody else can have got its pid since.
        let is_same = process.is_none_or(|process| pidfd::pid_of(process).is_ok_and(|now| now == pid));
        let leads = self.handles.get(&run).is_some_and(|handle| handle.pid == pid);
        if !is_same && !leads {
            return None;
        }
        if let Some(identity) = identity {
            self.notify.senders.remember(identity, run);
        }
        Some(run)
    }

    /// The run of a process. With its `identity`, a leader with that pid must be that very process.
    pub(crate) fn run_of_process(&self, pid: i32, identity: Option<u64>) -> Option<RunId> {
        // Where one that has ended and one that lives have the same pid, it is the latter's.
        let (ended, living): (Vec<_>, Vec<_>) = self.handles.iter().partition(|(_, handle)| handle.exit.is_some());
        let all = ended.into_iter().chain(living);
        let leaders: BTreeMap<i32, RunId> = all.map(|(run, handle)| (handle.pid, *run)).collect();
        if let Some(run) = leaders.get(&pid) {
            let other = self
                .handles
                .get(run)
                .and_then(|handle| pidfd::identity(handle.pidfd.as_fd()));
            let differ = identity.zip(other).is_some_and(|(one, other)| one != other);
            return (!differ).then_some(*run);
        }
        let own = [1, self.keeper_pid, i32::try_from(std::process::id()).unwrap_or(0)];
        let mut line = Vec::new();
        let mut next = pid;
        while line.len() < DEPTH && next > 0 && !own.contains(&next) {
            if let Some(run) = leaders.get(&next) {
                return Some(*run);
            }
            let stat = procfs::stat(next)?;
            if let Some(run) = leaders.get(&stat.session) {
                return Some(*run);
            }
            line.push((next, stat.start_ticks));
            next = stat.ppid;
        }
        // Whoever lived under a keeper before this one is an orphan of somebody else by now.
        let orphan = next == self.keeper_pid;
        let prefix = format!("{}.", self.home_tag);
        let marked = line.iter().filter(|(_, born)| orphan || *born < self.keeper_born);
        marked.into_iter().find_map(|(pid, _)| {
            let environ = procfs::environ(*pid)?;
            let mark = procfs::variable(&environ, MARKER)?;
            let run = mark.to_str()?.strip_prefix(&prefix)?;
            Some(RunId(run.parse().ok()?)).filter(|run| self.handles.contains_key(run) || self.ordered.contains(run))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{REMEMBERED, Senders};
    use crate::model::names::RunId;

    #[test]
    fn only_so_many_are_remembered() {
        let mut senders = Senders::default();
        for number in 0..REMEMBERED as u64 + 10 {
            senders.remember(number, RunId(number));
            senders.remember(number, RunId(number));
        }
        assert_eq!((senders.known.len(), senders.order.len()), (REMEMBERED, REMEMBERED));
        assert!(!senders.known.contains_key(&9) && senders.known.contains_key(&10));
    }
}
