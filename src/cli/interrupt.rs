//! Ctrl-C while the daemon works on something: the command ends, the work goes on, and the user is told.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::thread;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::cli::failure::Failure;
use crate::cli::progress::Progress;
use crate::cli::ui::{Colour, Ui};

/// Runs `work` on a thread of its own and returns its result, or an interruption as soon as SIGINT comes.
///
/// SIGINT is blocked meanwhile and read from a descriptor, so no signal handler runs.
pub(crate) fn unless_interrupted<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    watched(work, None)
}

/// The same, while somebody sees how it goes on.
pub(crate) fn watched<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    mut progress: Option<Progress>,
) -> Result<T, Failure> {
    let mut interrupt = SigSet::empty();
    interrupt.add(Signal::SIGINT);
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    let (Ok(signals), Ok((reader, writer))) = (SignalFd::with_flags(&interrupt, flags), io::pipe()) else {
        return work();
    };
    if interrupt.thread_block().is_err() {
        return work();
    }
    let worker = thread::spawn(move || {
        let result = work();
        drop(writer);
        result
    });
    let interrupted = wait(&signals, &reader, progress.as_mut());
    if let Some(progress) = &mut progress {
        progress.end();
    }
    let _ = interrupt.thread_unblock();
    if interrupted {
        return Err(
            Failure::interrupted("interrupted; the daemon is still going on with it").hint("clmgr status shows it"),
        );
    }
    let lost = |_| Failure::failed("the request was lost inside clmgr; this is a bug");
    worker.join().map_err(lost)?
}

/// Somebody at a terminal is told that it goes on after this long.
const PATIENCE_MS: u16 = 3000;

/// Time between two looks at what is going on.
const BEAT_MS: u16 = 200;

/// Waits for either; true if it was the signal.
fn wait(signals: &SignalFd, done: &io::PipeReader, mut progress: Option<&mut Progress>) -> bool {
    let mut left = io::stderr().is_terminal().then_some(PATIENCE_MS);
    loop {
        let patience = match (left, &progress) {
            (_, Some(_)) => PollTimeout::from(BEAT_MS),
            (Some(left), None) => PollTimeout::from(left),
            (None, None) => PollTimeout::NONE,
        };
        let mut both = [
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(done.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut both, patience) {
            Err(nix::errno::Errno::EINTR) => {}
            Ok(0) if progress.as_mut().is_some_and(|progress| progress.beat()) => left = None,
            Ok(0) if progress.is_some() && left.is_none_or(|left| left > BEAT_MS) => {
                left = left.map(|left| left - BEAT_MS);
            }
            Ok(0) => {
                left = None;
                Ui::stdio(Colour::Auto).note("still working; clmgr events -f shows it, Ctrl-C leaves it to the daemon");
            }
            Err(_) => return false,
            Ok(_) if both[1].any().unwrap_or(true) => return false,
            Ok(_) => return matches!(signals.read_signal(), Ok(Some(_))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::unless_interrupted;
    use crate::cli::{exit, failure::Failure};
    use std::sync::mpsc;

    #[test]
    fn returns_what_the_work_returns() {
        assert_eq!(unless_interrupted(|| Ok(7)), Ok(7));
        assert_eq!(
            unless_interrupted::<()>(|| Err(Failure::failed("no")))
                .unwrap_err()
                .message,
            "no"
        );
    }

    #[test]
    fn an_interrupt_ends_the_wait_but_not_the_work() {
        use nix::sys::pthread::{pthread_kill, pthread_self};
        let waiter = pthread_self();
        let (release, released) = mpsc::channel::<()>();
        let (finished, done) = mpsc::channel();
        let failure = unless_interrupted(move || {
            // The signal is pending on the waiting thread, which has it blocked and reads it.
            pthread_kill(waiter, nix::sys::signal::Signal::SIGINT).unwrap();
            let _ = released.recv();
            finished.send(()).unwrap();
            Ok(())
        })
        .unwrap_err();
        assert_eq!(failure.code, exit::INTERRUPTED);
        assert!(failure.hints[0].contains("clmgr status"));
        drop(release);
        done.recv().unwrap();
    }
}
