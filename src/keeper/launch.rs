//! From an order to a running child.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use super::children::Child;
use super::protocol::{Restored, SpawnRequest};
use crate::model::exit::{Exit, ExitStatus};
use crate::os::cstrings::CStrings;
use crate::os::spawn::{SpawnError, SpawnPlan, Step, spawn};
use crate::os::{clock, fds, limits, pidfd, procfs, spare};

/// Descriptors that are kept get numbers from here on, so that the low ones stay free for those that a
/// child is given.
pub(super) const KEPT: i32 = 64;

/// Descriptors that apps may not use up: those of one spawn under way, and what it takes to start a daemon and to
/// take in a message from it.
const RESERVE: u64 = 24;

/// What every child begins with.
#[derive(Debug)]
pub(super) struct Launcher {
    null: OwnedFd,
    nofile: Option<u64>,
    oom_score_adj: Option<i32>,
}

impl Launcher {
    /// Raises this process's own limit of descriptors; children get the old one. They also get `oom_score_adj`, the
    /// score from before this process protected itself; a protection from outside is the manager's alone, too.
    pub(super) fn new(oom_score_adj: i32) -> io::Result<Self> {
        let score = oom_score_adj.max(0);
        Ok(Self {
            null: fds::null()?,
            nofile: limits::raise_nofile()?,
            oom_score_adj: (limits::oom_score_adj() != score).then_some(score),
        })
    }

    /// The same in a process whose limits another build has raised already.
    pub(super) fn resumed(nofile: Option<u64>, oom_score_adj: Option<i32>) -> io::Result<Self> {
        Ok(Self {
            null: fds::null()?,
            nofile,
            oom_score_adj,
        })
    }

    /// What children get in place of this process's own: the limit of descriptors, and `oom_score_adj`.
    pub(super) const fn inherited(&self) -> (Option<u64>, Option<i32>) {
        (self.nofile, self.oom_score_adj)
    }

    /// Starts it.
    pub(super) fn launch(&self, request: SpawnRequest, attached: &[OwnedFd]) -> Result<Child, SpawnError> {
        let invalid = |_: std::ffi::NulError| failed(Step::Plan, libc::EINVAL);
        if request.extra.len() != attached.len() {
            return Err(failed(Step::Plan, libc::EINVAL));
        }
        if limits::free_descriptors() < RESERVE {
            return Err(failed(Step::Descriptors, libc::EMFILE));
        }
        let ends =
            Ends::open(&request).map_err(|error| failed(Step::Descriptors, error.raw_os_error().unwrap_or(0)))?;
        let null = self.null.as_fd();
        let out = ends.child_out.as_ref().map_or(null, AsFd::as_fd);
        let err = match &ends.child_err {
            Some(err) => err.as_fd(),
            None if request.merge_output => out,
            None => null,
        };
        let mut placed: Vec<(i32, BorrowedFd<'_>)> = vec![
            (0, ends.child_stdin.as_ref().map_or(null, AsFd::as_fd)),
            (1, out),
            (2, err),
        ];
        if let (Some(number), Some(end)) = (request.channel, &ends.child_channel) {
            placed.push((number, end.as_fd()));
        }
        placed.extend(request.extra.iter().copied().zip(attached.iter().map(AsFd::as_fd)));
        let taken: Vec<i32> = placed.iter().map(|(number, _)| *number).collect();
        if let (Some(ours), Some(number)) = (&ends.channel, spare::number(&taken)) {
            placed.push((number, ours.as_fd()));
        }
        let plan = SpawnPlan {
            argv: CStrings::from_terminated(request.argv),
            env: CStrings::from_terminated(request.env),
            pid_vars: request.pid_vars.into_iter().map(String::into_bytes).collect(),
            cwd: if request.cwd.is_empty() {
                None
            } else {
                Some(CString::new(request.cwd).map_err(invalid)?)
            },
            fds: placed,
            umask: request.umask,
            nofile: self.nofile,
            oom_score_adj: self.oom_score_adj,
            blocked: 0,
        };
        let spawned = spawn(&plan)?;
        let kept = |fd: OwnedFd| Some(Arc::new(fds::lift(fd, KEPT)));
        Ok(Child {
            pid: spawned.pid,
            label: request.label,
            started: clock::monotonic(),
            fds: [
                kept(spawned.pidfd),
                ends.out.and_then(kept),
                ends.err.and_then(kept),
                ends.stdin.and_then(kept),
                ends.channel.and_then(kept),
            ],
            exit: None,
        })
    }
}

const fn failed(step: Step, errno: i32) -> SpawnError {
    SpawnError { step, errno }
}

/// Both ends of what connects keeper and child. Ours do not block; the child's do.
#[derive(Debug, Default)]
struct Ends {
    child_stdin: Option<OwnedFd>,
    child_out: Option<OwnedFd>,
    child_err: Option<OwnedFd>,
    child_channel: Option<OwnedFd>,
    out: Option<OwnedFd>,
    err: Option<OwnedFd>,
    stdin: Option<OwnedFd>,
    channel: Option<OwnedFd>,
}

impl Ends {
    fn open(request: &SpawnRequest) -> io::Result<Self> {
        let mut ends = Self::default();
        if request.capture {
            let (ours, theirs) = output()?;
            (ends.out, ends.child_out) = (Some(ours), Some(theirs));
            if !request.merge_output {
                let (ours, theirs) = output()?;
                (ends.err, ends.child_err) = (Some(ours), Some(theirs));
            }
        }
        if request.stdin {
            let (theirs, ours) = fds::pipe()?;
            // As with output: the app's input does not end if keeper and daemon die together.
            let theirs = fds::reopen_both_ways(&theirs).unwrap_or(theirs);
            (ends.stdin, ends.child_stdin) = (Some(ours), Some(theirs));
        }
        if request.channel.is_some() {
            let (ours, theirs) = fds::socketpair()?;
            (ends.channel, ends.child_channel) = (Some(ours), Some(theirs));
        }
        for ours in [&ends.out, &ends.err, &ends.stdin, &ends.channel].into_iter().flatten() {
            fds::set_nonblocking(ours)?;
        }
        Ok(ends)
    }
}

/// A pipe for output: our end and the child's. The child's is opened for reading, too, so that the pipe has a
/// reader as long as the child lives: if keeper and daemon die together, a write waits or succeeds, but never ends
/// the app with SIGPIPE, and the next daemon opens the pipe again.
fn output() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = fds::pipe()?;
    // Without /proc the plain end has to do.
    let theirs = fds::reopen_both_ways(&theirs).unwrap_or(theirs);
    Ok((ours, theirs))
}

/// Takes over a child of another keeper: the process if it is still the same, or how it ended. `fds` are
/// those of its `held`.
pub(super) fn adopt(restored: Restored, fds: &mut impl Iterator<Item = OwnedFd>) -> (Child, Option<Exit>) {
    use super::protocol::Held;
    let mut slots = [const { None }; 5];
    for (one, slot) in Held::ORDER.into_iter().zip(&mut slots) {
        if restored.held.has(one) {
            *slot = fds.next().map(|fd| Arc::new(fds::lift(fd, KEPT)));
        }
    }
    if slots[0].is_none() {
        slots[0] = same_process(restored.pid, restored.start_ticks).map(|fd| Arc::new(fds::lift(fd, KEPT)));
    }
    let exit = match &slots[0] {
        Some(fd) if pidfd::alive(fd) => None,
        Some(fd) => Some(ended(fd)),
        None => Some(Exit::bare(ExitStatus::Unknown)),
    };
    let child = Child {
        pid: restored.pid,
        label: restored.label,
        started: restored.started,
        fds: slots,
        exit: None,
    };
    (child, exit)
}

/// How a process ended that is no child of ours.
pub(super) fn ended(fd: &OwnedFd) -> Exit {
    Exit::bare(pidfd::exit_status(fd).unwrap_or(ExitStatus::Unknown))
}

fn same_process(pid: i32, start_ticks: u64) -> Option<OwnedFd> {
    let fd = pidfd::open(pid).ok()?;
    let same = procfs::stat(pid).is_some_and(|stat| stat.start_ticks == start_ticks);
    (same && pidfd::alive(&fd)).then_some(fd)
}
