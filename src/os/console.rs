//! Writing to a standard stream without ever waiting for its reader.
//!
//! A standard stream is shared with the shell, the container engine or a pager, so its open file must not be made
//! non-blocking. Pipes and terminals are opened once more through `/proc`, which gives an open file of our own;
//! sockets take a flag with each write; regular files do not wait.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::PollFlags;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::net::SendFlags;

use crate::model::duration::Millis;
use crate::os::poll;

/// What the kernel writes into a pipe at once or not at all, in bytes.
pub const ATOMIC: usize = 4096;

/// How a write is kept from waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// An open file of our own, non-blocking.
    Own,
    /// Somebody else's open file: small writes, and only when there is room.
    Shared,
    /// A flag with each write.
    Socket,
    /// Never waits.
    File,
}

/// A standard stream.
#[derive(Debug)]
pub struct Console {
    fd: OwnedFd,
    kind: Kind,
    pipe: bool,
}

impl Console {
    /// Takes a descriptor over. Never fails: one that cannot be used fails when it is written to.
    #[must_use]
    pub fn new(fd: OwnedFd) -> Self {
        let mode = rustix::fs::fstat(&fd).map_or(0, |stat| stat.st_mode);
        let file_type = FileType::from_raw_mode(mode);
        let pipe = file_type == FileType::Fifo;
        let (fd, kind) = if file_type == FileType::Socket {
            (fd, Kind::Socket)
        } else if file_type == FileType::RegularFile {
            (fd, Kind::File)
        } else {
            match reopen(&fd) {
                Ok(own) => (own, Kind::Own),
                Err(_) => (fd, Kind::Shared),
            }
        };
        Self { fd, kind, pipe }
    }

    /// Lines up to [`ATOMIC`] bytes are written whole, whoever else writes.
    #[must_use]
    pub const fn is_pipe(&self) -> bool {
        self.pipe
    }

    /// It may fail today and work tomorrow, as a file on a full disk does.
    #[must_use]
    pub const fn is_file(&self) -> bool {
        matches!(self.kind, Kind::File)
    }

    /// Writes what fits now and says how much that was; 0 if nothing does.
    ///
    /// # Errors
    /// As `write`; EPIPE when nobody reads any more.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let result = match self.kind {
            Kind::Own | Kind::File => rustix::io::write(&self.fd, bytes),
            Kind::Socket => rustix::net::send(&self.fd, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL),
            Kind::Shared => {
                let ready = poll::events(&self.fd, PollFlags::OUT, Millis(0))?;
                if !ready.intersects(PollFlags::OUT | PollFlags::ERR | PollFlags::HUP) {
                    return Ok(0);
                }
                let small = bytes.get(..ATOMIC).unwrap_or(bytes);
                rustix::io::write(&self.fd, small)
            }
        };
        match result {
            Ok(count) => Ok(count),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(0),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Waits until something can be written (or the stream is broken), at most this long.
    pub fn wait(&self, patience: Millis) {
        // If it cannot be waited for, the next write says why.
        drop(poll::events(&self.fd, PollFlags::OUT, patience));
    }
}

impl AsFd for Console {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn reopen(fd: &OwnedFd) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use super::Console;
    use crate::os::fds;
    use std::io::Read;

    #[test]
    fn a_full_pipe_takes_nothing_and_a_closed_one_says_so() {
        let (reader, writer) = fds::pipe().unwrap();
        let console = Console::new(writer.try_clone().unwrap());
        assert!(console.is_pipe() && !console.is_file());
        let piece = [b'x'; 4096];
        while console.write(&piece).unwrap() > 0 {}
        // The stream that is shared with others blocks as before.
        let flags = nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_GETFL).unwrap();
        assert_eq!(flags & libc::O_NONBLOCK, 0);
        drop(reader);
        let error = console.write(b"x").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn sockets_and_files_are_written_to() {
        let (ours, theirs) = fds::socketpair().unwrap();
        let console = Console::new(ours);
        while console.write(&[b'x'; 4096]).unwrap() > 0 {}
        drop(theirs);
        assert!(console.write(b"x").is_err());
        let mut file = tempfile::tempfile().unwrap();
        let console = Console::new(file.try_clone().unwrap().into());
        assert_eq!(console.write(b"abc").unwrap(), 3);
        assert!(console.is_file());
        let mut text = String::new();
        std::io::Seek::rewind(&mut file).unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "abc");
    }
}
