//! The pipe of a stream that rather loses lines than waits, and who may read it now.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use rustix::io::ioctl_fionread;

use crate::logs::clock::monotonic;
use crate::logs::journal::Filled;
use crate::logs::pump::drops::gap::Gap;
use crate::model::duration::Millis;
use crate::model::time::Moment;

/// How long the pump may be late before somebody else reads.
pub(super) const PATIENCE: Millis = Millis(20);
/// People are told of losses of one stream this far apart; the log tells of each.
const TELL: Millis = Millis(10_000);
/// Reads in a row, before the other pipes have their turn.
const TURNS: usize = 16;

/// Shared by the pump and the thread that stands in for it. Who reads the pipe has the lock; nobody has it while
/// something is written.
#[derive(Debug)]
pub(in crate::logs::pump) struct Gate {
    /// Of our own: the stream's may be closed meanwhile.
    pipe: OwnedFd,
    gap: Mutex<Option<Gap>>,
    /// When the pump last read from it.
    served: AtomicU64,
    unsaid: Mutex<Unsaid>,
}

/// What was lost, for people.
#[derive(Debug, Default)]
struct Unsaid {
    lines: u64,
    bytes: u64,
    next: Moment,
}

/// What the pump finds at a gate.
pub(in crate::logs::pump) enum Turn<'a> {
    /// Nothing is lost: the pipe may be read while this is held.
    Read(MutexGuard<'a, Option<Gap>>),
    /// This comes first.
    Bridge(Gap),
    /// The rest of a lost line has to come first.
    Wait,
}

impl Gate {
    pub(super) const fn new(pipe: OwnedFd, now: Moment) -> Self {
        Self {
            pipe,
            gap: Mutex::new(None),
            served: AtomicU64::new(now.0),
            unsaid: Mutex::new(Unsaid {
                lines: 0,
                bytes: 0,
                next: Moment(0),
            }),
        }
    }

    pub(super) fn pipe(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Gap>> {
        self.gap.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pump's turn. `all`: what is lost is said now, although the rest of a lost line is still to come. `buffer` is for that rest.
    pub(in crate::logs::pump) fn turn(&self, buffer: &mut [u8], all: bool) -> Turn<'_> {
        let mut lock = self.lock();
        self.served.store(monotonic().0, Ordering::Relaxed);
        let Some(mut gap) = lock.take() else {
            return Turn::Read(lock);
        };
        while gap.is_inside() {
            match read(&self.pipe, buffer) {
                Filled::Empty if !all || gap.is_empty() => {
                    *lock = Some(gap);
                    return Turn::Wait;
                }
                // The rest may come later: a child of the process is writing it.
                Filled::Empty => *lock = Some(gap.split()),
                // The end of all lines.
                Filled::End | Filled::Cannot | Filled::Full => break,
                Filled::Moved(range) => {
                    let rest = gap.finish_line(buffer.get(range).unwrap_or_default());
                    // There is none before the line has ended.
                    gap.tail.extend_from_slice(rest);
                }
            }
        }
        Turn::Bridge(gap)
    }

    /// Lines and bytes to tell people about: all since they were told, which they are now and then. `last`: or now.
    pub(in crate::logs::pump) fn tell(&self, now: Moment, lost: (u64, u64), last: bool) -> Option<(u64, u64)> {
        let mut unsaid = self.unsaid.lock().unwrap_or_else(PoisonError::into_inner);
        unsaid.lines += lost.0;
        unsaid.bytes += lost.1;
        if unsaid.lines == 0 || (now < unsaid.next && !last) {
            return None;
        }
        let said = (unsaid.lines, unsaid.bytes);
        *unsaid = Unsaid {
            next: now.after(TELL),
            ..Unsaid::default()
        };
        Some(said)
    }

    /// Stands in for the pump, which had its last chance at `began` or later, if the pipe is about to be full:
    /// what has been in it longest is lost. True if there is something to tell the pump.
    pub(super) fn relieve(&self, began: Moment, buffer: &mut [u8]) -> bool {
        let mut told = false;
        for _ in 0..TURNS {
            // Whoever has it reads.
            let Ok(mut gap) = self.gap.try_lock() else { return told };
            if monotonic().since(self.last_chance(began)) < PATIENCE {
                return told;
            }
            let Some(most) = self.surplus() else { return told };
            let most = most.min(buffer.len());
            let Some(Filled::Moved(range)) = buffer.get_mut(..most).map(|buffer| read(&self.pipe, buffer)) else {
                return told;
            };
            let Some(lost) = buffer.get(range).filter(|lost| !lost.is_empty()) else {
                return told;
            };
            gap.get_or_insert_default().lose(lost);
            told = true;
        }
        told
    }

    fn last_chance(&self, began: Moment) -> Moment {
        Moment(self.served.load(Ordering::Relaxed)).max(began)
    }

    /// How much to take out if the next write may have to wait: half of it, so that the newest lines stay. A pipe is
    /// full when its pages are used, which they are by half at least.
    fn surplus(&self) -> Option<usize> {
        let size = fcntl(&self.pipe, FcntlArg::F_GETPIPE_SZ).ok()?;
        let full = u64::try_from(size).ok()? * 3 / 8;
        let count = ioctl_fionread(&self.pipe).ok()?;
        (count >= full.max(1)).then(|| usize::try_from(count.div_ceil(2)).ok())?
    }
}

/// Reads a pipe past the journal.
pub(in crate::logs::pump) fn read(pipe: &OwnedFd, buffer: &mut [u8]) -> Filled {
    match nix::unistd::read(pipe, buffer) {
        Ok(0) => Filled::End,
        Ok(count) => Filled::Moved(0..count),
        Err(Errno::EAGAIN) => Filled::Empty,
        Err(Errno::EINTR) => Filled::Moved(0..0),
        Err(_) => Filled::End,
    }
}
