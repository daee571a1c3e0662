//! Descriptors: making them, moving them, and passing them to other processes.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{getsockopt, sockopt};
use rustix::fs::OFlags;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use rustix::pipe::PipeFlags;

/// Most descriptors in one message. The kernel's own limit is 253.
pub const MAX_PASSED: usize = 250;

/// Who is at the other end of a Unix stream socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Effective user when it connected.
    pub uid: u32,
    /// Effective group when it connected.
    pub gid: u32,
    /// Process that connected; 0 if it is in another pid namespace.
    pub pid: i32,
}

/// What one read of a stream socket brought.
#[derive(Debug, Default)]
pub struct Received {
    /// Bytes placed in the buffer; 0 at the end of the stream.
    pub bytes: usize,
    /// The kernel dropped descriptors because this process can hold no more.
    pub lost: bool,
}

/// A pipe: read end, write end; both close on exec and block.
///
/// # Errors
/// No descriptors left.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?)
}

/// A pair of connected Unix stream sockets; both close on exec and block.
///
/// # Errors
/// No descriptors left.
pub fn socketpair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// `/dev/null` for reading and writing; closes on exec.
///
/// # Errors
/// It is not there, or no descriptors are left.
pub fn null() -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    Ok(rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty())?)
}

/// Makes reads and writes return at once, for everybody who shares this open file.
///
/// # Errors
/// Not an open descriptor.
pub fn set_nonblocking(fd: impl AsFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(&fd)?;
    if flags.contains(OFlags::NONBLOCK) {
        return Ok(());
    }
    Ok(rustix::fs::fcntl_setfl(fd, flags | OFlags::NONBLOCK)?)
}

/// Keeps a descriptor across `exec`, or closes it there.
///
/// # Errors
/// Not an open descriptor.
pub fn set_close_on_exec(fd: impl AsFd, close: bool) -> io::Result<()> {
    let flag = if close {
        rustix::io::FdFlags::CLOEXEC
    } else {
        rustix::io::FdFlags::empty()
    };
    Ok(rustix::io::fcntl_setfd(fd, flag)?)
}

/// The same for many by their numbers; those that are not open are passed over. For a program that is about to
/// replace itself, or could not.
pub fn keep_across_exec(numbers: &[i32], keep: bool) {
    for number in numbers.iter().filter(|number| **number >= 0) {
        // SAFETY: the number is only borrowed for this one call, which fails cleanly if it is not open.
        let fd = unsafe { BorrowedFd::borrow_raw(*number) };
        // Not open: there is nothing to keep.
        let _none = set_close_on_exec(fd, !keep);
    }
}

/// The first of these that is not open.
#[must_use]
pub fn first_closed(numbers: &[i32]) -> Option<i32> {
    let is_open = |number: i32| {
        // SAFETY: the number is only borrowed for this one call, which fails cleanly if it is not open.
        number >= 0 && rustix::io::fcntl_getfd(unsafe { BorrowedFd::borrow_raw(number) }).is_ok()
    };
    numbers.iter().copied().find(|number| !is_open(*number))
}

/// What can be read at once, at most so many bytes; nothing from an empty pipe.
///
/// # Errors
/// As `read`.
pub fn read_now(fd: impl AsFd, most: usize) -> io::Result<Vec<u8>> {
    set_nonblocking(&fd)?;
    let mut bytes = vec![0; most];
    let mut filled = 0;
    while let Some(room) = bytes.get_mut(filled..).filter(|room| !room.is_empty()) {
        match rustix::io::read(&fd, room) {
            Ok(0) | Err(rustix::io::Errno::AGAIN) => break,
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// Takes over a descriptor number that this process was started with, such as 3.
///
/// # Errors
/// No such descriptor is open.
pub fn inherited(number: i32) -> io::Result<OwnedFd> {
    use std::os::fd::FromRawFd;
    if number < 3 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: the number is only borrowed for this one call, which fails cleanly if it is not open.
    let fd = unsafe { BorrowedFd::borrow_raw(number) };
    set_close_on_exec(fd, true)?;
    // SAFETY: it is open (the call above succeeded) and the caller says that it was inherited, so nothing
    // in this process owns it yet.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Makes standard output (1) or standard error (2) of this process lead to `fd`.
///
/// # Errors
/// Another number, or `fd` is not open.
pub fn redirect(fd: impl AsFd, number: i32) -> io::Result<()> {
    match number {
        1 => Ok(rustix::stdio::dup2_stdout(fd)?),
        2 => Ok(rustix::stdio::dup2_stderr(fd)?),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// Moves a descriptor to the lowest free number that is at least `from`. See `os::spawn` for why a
/// process that holds thousands of descriptors keeps the low numbers free.
#[must_use]
pub fn lift(fd: OwnedFd, from: i32) -> OwnedFd {
    rustix::io::fcntl_dupfd_cloexec(&fd, from).unwrap_or(fd)
}

/// Sends bytes, and with the first of them descriptors. Never waits for a non-blocking socket and never
/// raises SIGPIPE.
///
/// # Errors
/// As `sendmsg`; `WouldBlock` when the socket is full.
pub fn send(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_PASSED))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    Ok(rustix::net::sendmsg(
        socket,
        &[IoSlice::new(bytes)],
        &mut control,
        flags,
    )?)
}

/// Reads bytes and the descriptors that came with them, which are appended to `fds`. Never waits.
///
/// # Errors
/// As `recvmsg`; `WouldBlock` when there is nothing.
pub fn receive(socket: impl AsFd, buffer: &mut [u8], fds: &mut impl Extend<OwnedFd>) -> io::Result<Received> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(256))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let message = rustix::net::recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, flags)?;
    for item in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = item {
            fds.extend(received);
        }
    }
    Ok(Received {
        bytes: message.bytes,
        lost: message.flags.contains(ReturnFlags::CTRUNC),
    })
}

/// Reads bytes of a stream socket and leaves them where they are; 0 at the end of the stream. Never waits. What came
/// with a descriptor ends what can be seen before it is received.
///
/// # Errors
/// As `recv`; `WouldBlock` when there is nothing.
pub fn peek(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    let (bytes, _) = rustix::net::recv(socket, buffer, flags)?;
    Ok(bytes)
}

/// How many bytes wait in a stream socket.
///
/// # Errors
/// As `ioctl`.
pub fn waiting(socket: impl AsFd) -> io::Result<u64> {
    Ok(rustix::io::ioctl_fionread(socket)?)
}

/// Who connected.
///
/// # Errors
/// Not a connected Unix socket.
pub fn peer_cred(socket: impl AsFd) -> io::Result<Peer> {
    let cred = getsockopt(&socket, sockopt::PeerCredentials)?;
    Ok(Peer {
        uid: cred.uid(),
        gid: cred.gid(),
        pid: cred.pid(),
    })
}

/// Writes what fits at once and says how much that was; never waits.
///
/// # Errors
/// As `write`, but a full pipe is no error: it takes 0 bytes.
pub fn write_now(fd: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    set_nonblocking(&fd)?;
    match rustix::io::write(fd, bytes) {
        Ok(count) => Ok(count),
        Err(rustix::io::Errno::AGAIN) => Ok(0),
        Err(errno) => Err(errno.into()),
    }
}

/// The inode number of an open file: two descriptors of one pipe have the same.
///
/// # Errors
/// As `fstat`.
pub fn inode(fd: impl AsFd) -> io::Result<u64> {
    Ok(rustix::fs::fstat(fd)?.st_ino)
}

/// Two descriptors of one open file: what one of them reads or writes moves both. Where the kernel does not tell (no
/// `kcmp`), two of one inode.
#[must_use]
pub fn same_file(one: impl AsFd, other: impl AsFd) -> bool {
    const KCMP_FILE: libc::c_int = 0;
    let (left, right) = (one.as_fd().as_raw_fd(), other.as_fd().as_raw_fd());
    // SAFETY: takes numbers only: our own pid twice, and two open descriptors.
    let order = unsafe { libc::syscall(libc::SYS_kcmp, libc::getpid(), libc::getpid(), KCMP_FILE, left, right) };
    if order >= 0 {
        return order == 0;
    }
    let of = |fd: BorrowedFd<'_>| rustix::fs::fstat(fd).ok().map(|stat| (stat.st_dev, stat.st_ino));
    of(one.as_fd()).is_some_and(|this| of(other.as_fd()) == Some(this))
}

/// Device and inode number of an open file.
///
/// # Errors
/// As `fstat`.
pub fn file_id(fd: impl AsFd) -> io::Result<(u64, u64)> {
    let stat = rustix::fs::fstat(fd)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// Its other end is gone, or it has failed.
#[must_use]
pub fn is_hung_up(fd: impl AsFd) -> bool {
    use rustix::event::PollFlags;
    let events = crate::os::poll::events(fd, PollFlags::empty(), crate::model::duration::Millis::ZERO);
    events.is_ok_and(|events| events.intersects(PollFlags::HUP | PollFlags::ERR))
}

/// A file in memory with this name (for people only), empty, close-on-exec.
///
/// # Errors
/// As `memfd_create`.
pub fn memory(name: &str) -> io::Result<OwnedFd> {
    Ok(rustix::fs::memfd_create(name, rustix::fs::MemfdFlags::CLOEXEC)?)
}

/// The same pipe, open for reading and writing.
///
/// # Errors
/// There is no `/proc`, or it is no pipe.
pub fn reopen_both_ways(pipe: impl AsFd) -> io::Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    let path = format!("/proc/self/fd/{}", pipe.as_fd().as_raw_fd());
    Ok(rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?)
}

/// The read end of the pipe that a process holds the write end of at this number: the pipe is the same, so
/// nothing that is in it is lost.
///
/// # Errors
/// The process is gone, or has no pipe there.
pub fn reopen_pipe(pid: i32, number: i32) -> io::Result<OwnedFd> {
    reopen(pid, number, OFlags::RDONLY)
}

/// The write end of the pipe that a process holds the read end of at this number.
///
/// # Errors
/// As [`reopen_pipe`].
pub fn reopen_pipe_to_write(pid: i32, number: i32) -> io::Result<OwnedFd> {
    reopen(pid, number, OFlags::WRONLY)
}

fn reopen(pid: i32, number: i32, direction: OFlags) -> io::Result<OwnedFd> {
    use rustix::fs::{FileType, Mode};
    let path = format!("/proc/{pid}/fd/{number}");
    let kind = FileType::from_raw_mode(rustix::fs::stat(&path)?.st_mode);
    if kind != FileType::Fifo {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no pipe"));
    }
    Ok(rustix::fs::open(
        &path,
        direction | OFlags::NONBLOCK | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

#[cfg(test)]
mod tests {
    use super::{
        inherited, is_hung_up, lift, null, peer_cred, pipe, receive, same_file, send, set_nonblocking, socketpair,
    };
    use std::io;
    use std::os::fd::{AsFd, AsRawFd, OwnedFd};

    #[test]
    fn descriptors_arrive_with_their_bytes() {
        let (left, right) = socketpair().unwrap();
        let (read, write) = pipe().unwrap();
        assert_eq!(send(&left, b"ab", &[read.as_fd(), write.as_fd()]).unwrap(), 2);
        let mut fds: Vec<OwnedFd> = Vec::new();
        let mut buffer = [0; 8];
        let got = receive(&right, &mut buffer, &mut fds).unwrap();
        assert_eq!((got.bytes, got.lost, fds.len()), (2, false, 2));
        rustix::io::write(&fds[1], b"x").unwrap();
        assert_eq!(rustix::io::read(&read, &mut buffer).unwrap(), 1);
        let error = receive(&right, &mut buffer, &mut fds).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        drop(left);
        assert_eq!(receive(&right, &mut buffer, &mut fds).unwrap().bytes, 0);
        assert_eq!(send(&right, b"x", &[]).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn what_is_peeked_at_stays() {
        let (left, right) = socketpair().unwrap();
        let null = null().unwrap();
        send(&left, b"ab", &[]).unwrap();
        send(&left, b"c", &[null.as_fd()]).unwrap();
        send(&left, b"d", &[]).unwrap();
        let mut buffer = [0; 8];
        for _ in 0..2 {
            assert_eq!(
                (super::peek(&right, &mut buffer).unwrap(), &buffer[..3]),
                (3, &b"abc"[..])
            );
        }
        assert_eq!(super::waiting(&right).unwrap(), 4);
        let mut fds: Vec<OwnedFd> = Vec::new();
        assert_eq!(receive(&right, &mut buffer[..3], &mut fds).unwrap().bytes, 3);
        assert_eq!(super::peek(&right, &mut buffer).unwrap(), 1);
        drop(left);
        receive(&right, &mut buffer, &mut fds).unwrap();
        assert_eq!((super::peek(&right, &mut buffer).unwrap(), fds.len()), (0, 1));
    }

    #[test]
    fn a_full_message_of_descriptors_passes() {
        let (left, right) = socketpair().unwrap();
        let null = null().unwrap();
        let many = vec![null.as_fd(); super::MAX_PASSED];
        send(&left, b"x", &many).unwrap();
        let mut fds: Vec<OwnedFd> = Vec::new();
        let got = receive(&right, &mut [0; 1], &mut fds).unwrap();
        assert_eq!((fds.len(), got.lost), (super::MAX_PASSED, false));
        let too_many = vec![null.as_fd(); 300];
        assert!(send(&left, b"x", &too_many).is_err());
    }

    #[test]
    fn tells_one_file_from_another_and_what_has_ended() {
        let (left, right) = socketpair().unwrap();
        assert!(same_file(&left, left.try_clone().unwrap()));
        assert!(!same_file(&left, &right));
        assert!(!is_hung_up(&left) && !is_hung_up(null().unwrap()));
        drop(right);
        assert!(is_hung_up(&left));
    }

    #[test]
    fn moves_and_adopts() {
        let fd = lift(null().unwrap(), 200);
        assert!(fd.as_raw_fd() >= 200);
        assert!(inherited(1_000_000).is_err());
        assert!(inherited(0).is_err());
        let (left, _right) = socketpair().unwrap();
        set_nonblocking(&left).unwrap();
        let me = i32::try_from(std::process::id()).unwrap();
        assert_eq!(peer_cred(&left).unwrap().pid, me);
    }
}
