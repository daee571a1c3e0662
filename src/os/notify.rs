//! The manager's end of `NOTIFY_SOCKET` (`sd_notify(3)`), with senders named by the kernel.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, setsockopt, socket, sockopt};

use crate::os::fsx;

/// Longest message; longer ones are no messages, as with systemd.
const MAX_MESSAGE: usize = 4096;
/// As in `<asm-generic/socket.h>` and `<linux/socket.h>`, since Linux 6.5.
const SO_PASSPIDFD: libc::c_int = 76;
const SCM_PIDFD: libc::c_int = 4;
/// Room for what may come beside a message: credentials, a pidfd, 253 descriptors, each with its header.
const CONTROL_WORDS: usize = 160;

/// One datagram.
#[derive(Debug)]
pub struct Message {
    /// The process that sent it: a number only, it may be gone.
    pub pid: i32,
    /// The same process, where the kernel tells (Linux 6.5 and later).
    pub process: Option<OwnedFd>,
    /// Assignments, one a line.
    pub text: Vec<u8>,
    /// It was longer than a message may be, and is cut.
    pub cut: bool,
    /// Descriptors that came along. Whoever drops the message closes them, which is what a barrier waits for.
    pub fds: Vec<OwnedFd>,
}

/// A bound datagram socket.
#[derive(Debug)]
pub struct NotifySocket {
    fd: OwnedFd,
    path: Option<PathBuf>,
}

impl NotifySocket {
    /// Binds a path (0600), which is removed first and again when this is dropped.
    ///
    /// # Errors
    /// The path is too long or its folder cannot be written.
    pub fn bind_path(path: &Path) -> io::Result<Self> {
        fsx::remove_file(path)?;
        let bound = Self {
            fd: Self::bind(&UnixAddr::new(path)?)?,
            path: Some(path.to_owned()),
        };
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(bound)
    }

    /// Binds an abstract name (without the leading NUL, which `NOTIFY_SOCKET` writes as `@`).
    ///
    /// # Errors
    /// The name is taken or too long.
    pub fn bind_abstract(name: &[u8]) -> io::Result<Self> {
        let fd = Self::bind(&UnixAddr::new_abstract(name)?)?;
        Ok(Self { fd, path: None })
    }

    /// A socket that was bound earlier, by this process or another.
    #[must_use]
    pub fn from_fd(fd: OwnedFd) -> Self {
        name_senders_by_process(&fd);
        Self { fd, path: None }
    }

    /// The same, but its path is left alone when this is dropped: somebody else keeps the socket, too.
    #[must_use]
    pub fn leave_path(mut self) -> Self {
        self.path = None;
        self
    }

    fn bind(address: &UnixAddr) -> io::Result<OwnedFd> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
        setsockopt(&fd, sockopt::PassCred, &true)?;
        name_senders_by_process(&fd);
        bind(fd.as_raw_fd(), address)?;
        Ok(fd)
    }

    /// The next message; `None` if there is none. Never waits. What was sent without credentials is dropped.
    ///
    /// # Errors
    /// As `recvmsg`.
    pub fn recv(&self) -> io::Result<Option<Message>> {
        loop {
            match receive(&self.fd) {
                Ok(Some(message)) => return Ok(Some(message)),
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// From now on messages come with a pidfd of their sender. Before Linux 6.5 the kernel has no such option.
fn name_senders_by_process(socket: &OwnedFd) {
    let on: libc::c_int = 1;
    // SAFETY: an open descriptor and a pointer to a live integer of the size given.
    let _refused = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PASSPIDFD,
            (&raw const on).cast(),
            libc::socklen_t::try_from(size_of_val(&on)).unwrap_or(0),
        )
    };
}

/// One datagram, or nothing if its sender is not known.
fn receive(socket: &OwnedFd) -> io::Result<Option<Message>> {
    let mut buffer = vec![0_u8; MAX_MESSAGE];
    // Words, because control messages are aligned like them.
    let mut control = [0_u64; CONTROL_WORDS];
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: all-zero bytes are a valid `msghdr`: no pointers, no lengths.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(&control);
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: the header points to buffers of the lengths it names, which outlive the call.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    buffer.truncate(length);
    let (mut sender, mut process, mut fds) = (None, None, Vec::new());
    // SAFETY: `recvmsg` has filled the header in and `control` lives; the macros stay within its length.
    let mut item = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
    while !item.is_null() {
        // SAFETY: not null, so it points to a whole control message within `control`, which is aligned for it.
        let (level, kind, data, bytes) = unsafe {
            let data = libc::CMSG_DATA(item);
            let skipped = data.offset_from(item.cast()).unsigned_abs();
            (
                (*item).cmsg_level,
                (*item).cmsg_type,
                data,
                (*item).cmsg_len.saturating_sub(skipped),
            )
        };
        match (level, kind) {
            (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) if bytes >= size_of::<libc::ucred>() => {
                // SAFETY: the kernel has put credentials there; they need not be aligned.
                sender = Some(unsafe { data.cast::<libc::ucred>().read_unaligned() }.pid);
            }
            (libc::SOL_SOCKET, libc::SCM_RIGHTS | SCM_PIDFD) => {
                for at in 0..bytes / size_of::<libc::c_int>() {
                    // SAFETY: the kernel has put that many numbers there; they need not be aligned.
                    let number = unsafe { data.cast::<libc::c_int>().add(at).read_unaligned() };
                    // In place of the pidfd of a process that is gone there may be an error.
                    if number < 0 {
                        continue;
                    }
                    // SAFETY: the kernel has just made this descriptor for us and nothing else knows it.
                    let fd = unsafe { OwnedFd::from_raw_fd(number) };
                    if kind == SCM_PIDFD {
                        process = Some(fd);
                    } else {
                        fds.push(fd);
                    }
                }
            }
            _ => {}
        }
        // SAFETY: as for the first one.
        item = unsafe { libc::CMSG_NXTHDR(&raw const header, item) };
    }
    Ok(sender.map(|pid| Message {
        pid,
        process,
        text: buffer,
        cut: header.msg_flags & libc::MSG_TRUNC != 0,
        fds,
    }))
}

impl AsFd for NotifySocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for NotifySocket {
    fn as_raw_fd(&self) -> i32 {
        self.fd.as_raw_fd()
    }
}

impl Drop for NotifySocket {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            drop(fsx::remove_file(path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::NotifySocket;
    use crate::os::{fds, pidfd};
    use std::os::fd::AsFd;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    #[test]
    fn tells_who_said_what() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("n");
        crate::os::fsx::write_atomic(&path, "stale".as_bytes(), 0o600).unwrap();
        let server = NotifySocket::bind_path(&path).unwrap();
        assert!(server.recv().unwrap().is_none());
        let client = UnixDatagram::unbound().unwrap();
        client.send_to(b"READY=1\n\xff=\xfe", &path).unwrap();
        client.send_to(b"", &path).unwrap();
        let message = server.recv().unwrap().unwrap();
        let me = i32::try_from(std::process::id()).unwrap();
        assert_eq!((message.pid, message.cut), (me, false));
        assert_eq!(message.text, b"READY=1\n\xff=\xfe");
        if let Some(process) = &message.process {
            assert_eq!(pidfd::pid_of(process).unwrap(), me);
        }
        assert_eq!(server.recv().unwrap().unwrap().text.len(), 0);
        client.send_to(&[b'x'; 6000], &path).unwrap();
        let long = server.recv().unwrap().unwrap();
        assert_eq!((long.cut, long.text.len()), (true, 4096));
        drop(server);
        assert!(!path.exists());
    }

    #[test]
    fn descriptors_come_along_and_none_is_left_open() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("n");
        let server = NotifySocket::bind_path(&path).unwrap();
        let client = UnixDatagram::unbound().unwrap();
        client.connect(&path).unwrap();
        let (reader, writer) = fds::pipe().unwrap();
        fds::send(&client, b"FDSTORE=1", &vec![writer.as_fd(); 250]).unwrap();
        drop(writer);
        let message = server.recv().unwrap().unwrap();
        assert_eq!(message.fds.len(), 250);
        drop(message);
        // Nobody can write any more.
        assert_eq!(rustix::io::read(&reader, &mut [0; 1]).unwrap(), 0);
    }

    #[test]
    fn abstract_names_work_too() {
        let name = format!("clmgr-test-{}", std::process::id());
        let server = NotifySocket::bind_abstract(name.as_bytes()).unwrap();
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        UnixDatagram::unbound()
            .unwrap()
            .send_to_addr(b"READY=1", &address)
            .unwrap();
        assert!(server.recv().unwrap().is_some());
        assert!(NotifySocket::bind_abstract(name.as_bytes()).is_err());
    }
}
