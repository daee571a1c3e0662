//! One keeper per home: an exclusive lock that the kernel drops when its holder dies.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, flock, ftruncate, open};
use rustix::io::{pread, pwrite};

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody alive has it.
    #[error("another keeper is already running{}", pid.map(|pid| format!(" as process {pid}")).unwrap_or_default())]
    Held {
        /// Who, if the file tells.
        pid: Option<i32>,
    },
    /// The file cannot be used.
    #[error("cannot use the lock file {path:?}")]
    Io {
        /// The file.
        path: std::path::PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// The lock, held as long as this (or a copy of its descriptor) is open.
#[derive(Debug)]
pub struct Lock {
    fd: OwnedFd,
}

impl Lock {
    /// The descriptor that holds the lock, for a program that replaces this one.
    #[must_use]
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// Writes beside the holder's pid where it can be reached, for those who look elsewhere: the folder of sockets
    /// depends on the environment, and that of the holder may be another than theirs.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn record(&self, socket: &Path) -> io::Result<()> {
        let mut text = format!("{}\n", std::process::id()).into_bytes();
        text.extend_from_slice(socket.as_os_str().as_bytes());
        text.push(b'\n');
        pwrite(&self.fd, &text, 0)?;
        Ok(())
    }

    /// Takes over a lock from [`Lock::into_fd`].
    #[must_use]
    pub const fn from_fd(fd: OwnedFd) -> Self {
        Self { fd }
    }
}

impl AsFd for Lock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Takes the lock and writes this process's pid into the file. A file left by a dead holder is no
/// obstacle, whatever it contains. Never waits.
///
/// # Errors
/// The lock is held, or the file cannot be opened.
pub fn acquire(path: &Path) -> Result<Lock, LockError> {
    let io = |errno: rustix::io::Errno| LockError::Io {
        path: path.to_owned(),
        source: errno.into(),
    };
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let fd = open(path, flags, Mode::from_raw_mode(0o600)).map_err(io)?;
    match flock(&fd, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Err(LockError::Held { pid: holder(&fd) }),
        Err(errno) => return Err(io(errno)),
    }
    // For people only: on a full disk, or one that became read-only, the lock is as good without it.
    let _untold = ftruncate(&fd, 0).and_then(|()| pwrite(&fd, format!("{}\n", std::process::id()).as_bytes(), 0));
    Ok(Lock { fd })
}

/// Whether somebody alive holds the lock. Changes nothing, the file's content least of all; a lock that is asked
/// for in this very moment may seem to be held, so whoever takes it tries more than once.
#[must_use]
pub fn is_held(path: &Path) -> bool {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let Ok(fd) = open(path, flags, Mode::empty()) else {
        return false;
    };
    flock(&fd, FlockOperation::NonBlockingLockShared) == Err(rustix::io::Errno::WOULDBLOCK)
}

/// Where the holder of a lock can be reached, if there is one and it has recorded that.
#[must_use]
pub fn socket_of_holder(path: &Path) -> Option<PathBuf> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let text = content(&open(path, flags, Mode::empty()).ok()?)?;
    let socket = text.split(|byte| *byte == b'\n').nth(1)?;
    let socket = PathBuf::from(OsStr::from_bytes(socket));
    (socket.is_absolute() && is_held(path)).then_some(socket)
}

/// The process that holds a lock, if there is one and it can be told.
#[must_use]
pub fn pid_of_holder(path: &Path) -> Option<i32> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let fd = open(path, flags, Mode::empty()).ok()?;
    holder(&fd).filter(|_| is_held(path))
}

fn holder(fd: &OwnedFd) -> Option<i32> {
    let text = content(fd)?;
    let line = text.split(|byte| *byte == b'\n').next()?;
    std::str::from_utf8(line).ok()?.trim().parse().ok()
}

fn content(fd: &OwnedFd) -> Option<Vec<u8>> {
    let mut text = vec![0; 4096];
    let length = pread(fd, &mut text, 0).ok()?;
    text.truncate(length);
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::{Lock, LockError, acquire, pid_of_holder, socket_of_holder};
    use std::path::Path;

    #[test]
    fn is_exclusive_and_survives_as_a_descriptor() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("lock");
        let lock = acquire(&path).unwrap();
        let me = i32::try_from(std::process::id()).unwrap();
        assert!(matches!(acquire(&path), Err(LockError::Held { pid: Some(pid) }) if pid == me));
        let lock = Lock::from_fd(lock.into_fd());
        assert!(matches!(acquire(&path), Err(LockError::Held { .. })));
        assert_eq!((pid_of_holder(&path), socket_of_holder(&path)), (Some(me), None));
        lock.record(Path::new("/run/x/clmgr.sock")).unwrap();
        assert_eq!(socket_of_holder(&path).as_deref(), Some(Path::new("/run/x/clmgr.sock")));
        assert!(matches!(acquire(&path), Err(LockError::Held { pid: Some(pid) }) if pid == me));
        drop(lock);
        assert_eq!((pid_of_holder(&path), socket_of_holder(&path)), (None, None));
        acquire(&path).unwrap();
    }

    #[test]
    fn a_stale_file_is_no_obstacle() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("lock");
        crate::os::fsx::write_atomic(&path, "4194304999 some old rubbish that is longer\n".as_bytes(), 0o600).unwrap();
        let _lock = acquire(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, format!("{}\n", std::process::id()));
        assert!(matches!(acquire(temp.path()), Err(LockError::Io { .. })));
    }
}
