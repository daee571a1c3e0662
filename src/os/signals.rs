//! Signals as descriptors.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Signals that are blocked for the calling thread (and threads it starts later) and read from a
/// non-blocking descriptor instead.
#[derive(Debug)]
pub struct Signals {
    fd: SignalFd,
}

impl Signals {
    /// Blocks `signals` (numbers) and opens the descriptor. Call it before any thread is started.
    ///
    /// # Errors
    /// A number is no signal, or no descriptor is left.
    pub fn block(signals: &[i32]) -> io::Result<Self> {
        let mut set = SigSet::empty();
        for number in signals {
            set.add(Signal::try_from(*number)?);
        }
        set.thread_block()?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Self { fd })
    }

    /// The next signal that has arrived, or `None`. Several of the same kind may come as one.
    ///
    /// # Errors
    /// The descriptor fails, which does not happen.
    pub fn next(&self) -> io::Result<Option<i32>> {
        let info = self.fd.read_signal()?;
        Ok(info.and_then(|info| i32::try_from(info.ssi_signo).ok()))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Ignores these signals in this process. Children made by `os::spawn` do not inherit that.
///
/// # Errors
/// A number is no signal that can be ignored.
pub fn ignore(signals: &[i32]) -> io::Result<()> {
    for number in signals {
        let which = Signal::try_from(*number)?;
        // SAFETY: `SigIgn` installs no handler, so no code of ours runs in signal context.
        unsafe { signal(which, SigHandler::SigIgn) }?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Signals, ignore};

    #[test]
    fn a_blocked_signal_is_read() {
        let signals = Signals::block(&[libc::SIGUSR2]).unwrap();
        assert_eq!(signals.next().unwrap(), None);
        // To this thread alone: other tests run beside it.
        // SAFETY: this thread exists.
        assert_eq!(unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGUSR2) }, 0);
        assert_eq!(signals.next().unwrap(), Some(libc::SIGUSR2));
        assert_eq!(signals.next().unwrap(), None);
        assert!(Signals::block(&[99]).is_err());
        assert!(ignore(&[libc::SIGKILL]).is_err());
    }
}
