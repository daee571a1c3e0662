//! Collecting dead children.

use std::io;
use std::mem::MaybeUninit;

use crate::model::exit::{Exit, ExitStatus};

/// A child that is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reaped {
    /// Its pid, which the kernel may give to another process from now on.
    pub pid: i32,
    /// How it ended and what it used.
    pub exit: Exit,
}

/// Collects the next dead child of this process, whoever it is; `None` if none is dead. Never waits.
///
/// # Errors
/// Nothing but a defect of the caller's environment; no children at all is no error.
pub fn next() -> io::Result<Option<Reaped>> {
    wait4(-1)
}

/// Collects this child if it is dead. Never waits.
///
/// # Errors
/// It is no child of this process.
pub fn one(pid: i32) -> io::Result<Option<Reaped>> {
    wait4(pid)
}

fn wait4(which: i32) -> io::Result<Option<Reaped>> {
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    loop {
        // SAFETY: both pointers are to live, writable objects of the right types.
        let pid = unsafe { libc::wait4(which, &raw mut status, libc::WNOHANG, usage.as_mut_ptr()) };
        if pid == 0 {
            return Ok(None);
        }
        if pid > 0 {
            // SAFETY: all-zero bytes are a valid `rusage`, and the kernel has filled it in.
            let usage = unsafe { usage.assume_init_ref() };
            return Ok(Some(Reaped {
                pid,
                exit: exit(status, usage),
            }));
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINTR) => {}
            Some(libc::ECHILD) if which == -1 => return Ok(None),
            Some(_) | None => return Err(error),
        }
    }
}

fn exit(status: i32, usage: &libc::rusage) -> Exit {
    let milliseconds = |time: libc::timeval| {
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        seconds * 1000 + u64::try_from(time.tv_usec).unwrap_or(0) / 1000
    };
    Exit {
        status: decode(status),
        core: libc::WIFSIGNALED(status) && libc::WCOREDUMP(status),
        user_ms: milliseconds(usage.ru_utime),
        system_ms: milliseconds(usage.ru_stime),
        max_rss: u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024,
    }
}

/// The meaning of a wait status.
pub(crate) fn decode(status: i32) -> ExitStatus {
    if libc::WIFEXITED(status) {
        ExitStatus::Code(libc::WEXITSTATUS(status))
    } else if libc::WIFSIGNALED(status) {
        ExitStatus::Signal(libc::WTERMSIG(status))
    } else {
        ExitStatus::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::decode;
    use crate::model::exit::ExitStatus;

    #[test]
    fn reads_wait_statuses() {
        assert_eq!(decode(0), ExitStatus::Code(0));
        assert_eq!(decode(3 << 8), ExitStatus::Code(3));
        assert_eq!(decode(9), ExitStatus::Signal(9));
        assert_eq!(decode(11 | 0x80), ExitStatus::Signal(11));
    }
}
