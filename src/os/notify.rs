//! The manager's end of `NOTIFY_SOCKET` (`sd_notify(3)`), with senders named by the kernel.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, bind, recvmsg, setsockopt, socket,
    sockopt,
};

use crate::os::fsx;

/// Longest message; longer ones are cut, as systemd does.
const MAX_MESSAGE: usize = 4096;

/// A message: assignments such as `("READY", "1")`, in order.
pub type Assignments = Vec<(String, String)>;

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
    pub const fn from_fd(fd: OwnedFd) -> Self {
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
        bind(fd.as_raw_fd(), address)?;
        Ok(fd)
    }

    /// The next message and the process that sent it; `None` if there is none. Descriptors that came
    /// along (`FDSTORE=1`, `BARRIER=1`) are closed, which is what a barrier waits for.
    ///
    /// # Errors
    /// As `recvmsg`.
    pub fn recv(&self) -> io::Result<Option<(i32, Assignments)>> {
        loop {
            let mut buffer = [0; MAX_MESSAGE];
            let mut space = nix::cmsg_space!(nix::sys::socket::UnixCredentials, [std::os::fd::RawFd; 253]);
            let mut slices = [IoSliceMut::new(&mut buffer)];
            let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
            let received = recvmsg::<UnixAddr>(self.fd.as_raw_fd(), &mut slices, Some(&mut space), flags);
            let message = match received {
                Ok(message) => message,
                Err(nix::errno::Errno::EAGAIN) => return Ok(None),
                Err(nix::errno::Errno::EINTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            let mut sender = None;
            for item in message.cmsgs()? {
                if let ControlMessageOwned::ScmCredentials(credentials) = item {
                    sender = Some(credentials.pid());
                } else if let ControlMessageOwned::ScmRights(fds) = item {
                    close_all(&fds);
                }
            }
            let length = message.bytes.min(MAX_MESSAGE);
            if let Some(pid) = sender {
                return Ok(Some((pid, parse(&buffer[..length]))));
            }
        }
    }
}

fn close_all(fds: &[i32]) {
    use std::os::fd::FromRawFd;
    for fd in fds {
        // SAFETY: the kernel has just made this descriptor for us and nothing else knows it.
        drop(unsafe { OwnedFd::from_raw_fd(*fd) });
    }
}

fn parse(message: &[u8]) -> Assignments {
    String::from_utf8_lossy(message)
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
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
        client
            .send_to(b"READY=1\nSTATUS=a=b\nrubbish\n\xff=\xfe", &path)
            .unwrap();
        client.send_to(b"", &path).unwrap();
        let (pid, pairs) = server.recv().unwrap().unwrap();
        assert_eq!(u32::try_from(pid).unwrap(), std::process::id());
        assert_eq!(pairs[0], ("READY".to_owned(), "1".to_owned()));
        assert_eq!(pairs[1], ("STATUS".to_owned(), "a=b".to_owned()));
        assert_eq!(pairs.len(), 3);
        assert_eq!(server.recv().unwrap().unwrap().1.len(), 0);
        client.send_to(&[b'x'; 6000], &path).unwrap();
        assert!(server.recv().unwrap().is_some());
        drop(server);
        assert!(!path.exists());
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
