//! Processes by descriptor: a pid that is used again cannot be hit.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::PollFlags;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::model::duration::Millis;
use crate::model::exit::ExitStatus;
use crate::os::{poll, procfs, reap};

/// Who a signal is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The one process.
    Process,
    /// Its process group, which it must lead.
    Group,
}

/// Refers to the process that has this pid now.
///
/// # Errors
/// There is none (`ESRCH`), or no descriptors are left.
pub fn open(pid: i32) -> io::Result<OwnedFd> {
    // `from_raw` has no answer for numbers below zero.
    let pid = Pid::from_raw(pid.max(0));
    Ok(pidfd_open(pid.ok_or(rustix::io::Errno::SRCH)?, PidfdFlags::empty())?)
}

/// Sends a signal (by number; 0 only checks).
///
/// # Errors
/// `ESRCH` when it is gone, `EPERM` when it is not ours.
pub fn signal(fd: impl AsFd, signal: i32, scope: Scope) -> io::Result<()> {
    static NO_GROUP_FLAG: AtomicBool = AtomicBool::new(false);
    match scope {
        Scope::Process => send(&fd, signal, 0),
        Scope::Group if NO_GROUP_FLAG.load(Ordering::Relaxed) => signal_group_by_pid(&fd, signal),
        Scope::Group => match send(&fd, signal, libc::PIDFD_SIGNAL_PROCESS_GROUP) {
            // Before Linux 6.9 the flag does not exist.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) && (0..=64).contains(&signal) => {
                NO_GROUP_FLAG.store(true, Ordering::Relaxed);
                signal_group_by_pid(&fd, signal)
            }
            result => result,
        },
    }
}

/// SIGKILL to the group that a process leads; if it leads none, to the process. One that is gone is no error.
pub fn kill(fd: impl AsFd) {
    if signal(&fd, libc::SIGKILL, Scope::Group).is_err() {
        let _gone = signal(&fd, libc::SIGKILL, Scope::Process);
    }
}

fn send(fd: &impl AsFd, signal: i32, flags: libc::c_uint) -> io::Result<()> {
    let raw = fd.as_fd().as_raw_fd();
    // SAFETY: an open descriptor, a number, no siginfo and flags; the kernel checks all of them.
    let done = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            raw,
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            flags,
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The group of a process that is alive, or dead and not yet reaped, has an id that nobody else uses.
fn signal_group_by_pid(fd: &impl AsFd, signal: i32) -> io::Result<()> {
    let pid = pid_of(fd)?;
    send(fd, 0, 0)?;
    // SAFETY: has no pointers.
    let done = unsafe { libc::kill(-pid, signal) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// A copy of a descriptor of the process. Needs the right to trace it: the same user, and where
/// `kernel.yama.ptrace_scope` is 1 or more, root or an ancestor of it.
///
/// # Errors
/// It is gone (`ESRCH`), has no such descriptor (`EBADF`), or we may not (`EPERM`).
pub fn descriptor(process: impl AsFd, number: i32) -> io::Result<OwnedFd> {
    Ok(rustix::process::pidfd_getfd(
        process,
        number,
        rustix::process::PidfdGetfdFlags::empty(),
    )?)
}

/// True until the process has ended, whether or not its parent has collected it since.
#[must_use]
pub fn alive(fd: impl AsFd) -> bool {
    poll::events(fd, PollFlags::IN, Millis::ZERO).is_ok_and(|events| events.is_empty())
}

/// How a process ended that need not be our child: asked of the kernel while it waits to be collected,
/// and after that from Linux 6.15 on. `None` while it lives and where nobody can tell.
#[must_use]
pub fn exit_status(fd: impl AsFd) -> Option<ExitStatus> {
    if alive(&fd) {
        return None;
    }
    if let Some(status) = exit_info(&fd) {
        return Some(status);
    }
    let pid = pid_of(&fd).ok()?;
    let status = procfs::zombie_status(pid);
    // It may have been collected (and its pid used again) while we looked.
    match exit_info(&fd) {
        Some(status) => Some(status),
        None => status.filter(|_| pid_of(&fd).is_ok()).map(reap::decode),
    }
}

/// `struct pidfd_info` as of Linux 6.13; later kernels accept this size.
#[repr(C)]
#[derive(Default)]
struct Info {
    mask: u64,
    cgroup: u64,
    ids: [u32; 11],
    exit_code: i32,
}

const INFO_EXIT: u64 = 1 << 3;
/// `_IOWR(0xFF, 11, struct pidfd_info)` with the size above.
const GET_INFO: libc::c_ulong = 0xC000_FF0B | (64 << 16);

fn exit_info(fd: &impl AsFd) -> Option<ExitStatus> {
    const { assert!(size_of::<Info>() == 64) };
    let mut info = Info {
        mask: INFO_EXIT,
        ..Info::default()
    };
    // SAFETY: the request number carries the size of the structure, which is writable.
    let done = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), GET_INFO as _, &raw mut info) };
    (done == 0 && info.mask & INFO_EXIT != 0).then(|| reap::decode(info.exit_code))
}

/// The pid behind the descriptor.
///
/// # Errors
/// The process has been collected, or the descriptor is no pidfd.
pub fn pid_of(fd: impl AsFd) -> io::Result<i32> {
    let text = std::fs::read(format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd()))?;
    let pid = text
        .split(|byte| *byte == b'\n')
        .find_map(|line| line.strip_prefix(b"Pid:"))
        .and_then(|value| std::str::from_utf8(value).ok()?.trim().parse::<i32>().ok());
    pid.filter(|pid| *pid > 0)
        .ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))
}

/// Names the process behind the descriptor, and never another one until the next boot. `None` before Linux 6.9, and
/// on machines of 32 bits.
#[must_use]
pub fn identity(fd: impl AsFd) -> Option<u64> {
    const PIDFS: i64 = 0x5049_4446;
    let kind = rustix::fs::fstatfs(&fd).ok()?.f_type;
    #[expect(clippy::useless_conversion, reason = "the type differs between machines")]
    let is_pidfs = i64::from(kind) == PIDFS;
    (is_pidfs && cfg!(target_pointer_width = "64"))
        .then(|| crate::os::fds::inode(&fd).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::{Scope, alive, exit_info, exit_status, identity, open, pid_of, signal};
    use crate::model::duration::Millis;
    use crate::model::exit::ExitStatus;
    use crate::os::{poll, procfs};
    use std::io::Write;
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    #[test]
    fn follows_signals_and_tells_the_status_before_and_after_collection() {
        let mut child = Command::new("/bin/sleep").arg("1000").process_group(0).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let fd = open(pid).unwrap();
        assert!(alive(&fd));
        assert_eq!(pid_of(&fd).unwrap(), pid);
        assert_eq!(exit_status(&fd), None);
        assert_eq!(identity(&fd), identity(open(pid).unwrap()));
        let own = open(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(identity(&own).is_none_or(|own| Some(own) != identity(&fd)));
        assert_eq!(identity(crate::os::fds::null().unwrap()), None);
        signal(&fd, 0, Scope::Group).unwrap();
        super::signal_group_by_pid(&fd, 0).unwrap();
        signal(&fd, libc::SIGTERM, Scope::Group).unwrap();
        assert!(poll::readable(&fd, Millis::from_secs(10)).unwrap());
        assert_eq!(exit_status(&fd), Some(ExitStatus::Signal(libc::SIGTERM)));
        // While it waits to be collected /proc tells, and nobody else can.
        assert_eq!(procfs::zombie_status(pid), Some(libc::SIGTERM));
        child.wait().unwrap();
        assert!(!alive(&fd));
        assert_eq!(procfs::zombie_status(pid), None);
        assert_eq!(exit_status(&fd), exit_info(&fd));
        if exit_info(&fd).is_some() {
            assert_eq!(exit_info(&fd), Some(ExitStatus::Signal(libc::SIGTERM)));
        } else {
            let _untold = writeln!(
                std::io::stderr(),
                "SKIPPED: this kernel forgets exits (Linux 6.15 does not)"
            );
        }
        let error = signal(&fd, libc::SIGTERM, Scope::Process).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ESRCH));
        assert!(signal(&fd, 4711, Scope::Group).is_err());
        assert!(open(0).is_err() && open(-1).is_err());
    }
}
