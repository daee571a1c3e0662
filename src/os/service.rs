//! This process as a service: what the service manager gave it (`sd_listen_fds(3)`, `sd_watchdog_enabled(3)`), and
//! how it is told what is going on (`sd_notify(3)`).

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};

use crate::model::duration::Millis;
use crate::os::fds;

/// The variables by which a service manager speaks to the process it has started, and to nobody else. Whoever
/// starts another process removes them.
pub const VARIABLES: [&str; 8] = [
    NOTIFY_SOCKET,
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "FDSTORE",
    "MAINPID",
];

/// Where the service manager listens.
pub const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";

/// Messages that may wait for a service manager that is busy. What comes then is lost.
const MOST_WAITING: usize = 16 * 1024;

/// The way to the service manager. Nothing here ever waits.
#[derive(Debug)]
pub struct Notifier {
    socket: OwnedFd,
    waiting: VecDeque<(Vec<u8>, Option<Arc<OwnedFd>>)>,
}

impl Notifier {
    /// Connects to what `NOTIFY_SOCKET` names: a path, or an abstract name after `@`.
    ///
    /// # Errors
    /// Nobody listens there, or it is neither of the two.
    pub fn connect(address: &OsStr) -> io::Result<Self> {
        let address = match address.as_bytes() {
            [b'@', name @ ..] => UnixAddr::new_abstract(name)?,
            [b'/', ..] => UnixAddr::new(address)?,
            _ => return Err(io::ErrorKind::Unsupported.into()),
        };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
        connect(socket.as_raw_fd(), &address)?;
        Ok(Self {
            socket: fds::lift(socket, 64),
            waiting: VecDeque::new(),
        })
    }

    /// Queues a message: assignments, one a line, and perhaps a descriptor. Call [`Notifier::flush`] afterwards.
    pub fn queue(&mut self, text: Vec<u8>, fd: Option<Arc<OwnedFd>>) {
        if self.waiting.len() < MOST_WAITING {
            self.waiting.push_back((text, fd));
        }
    }

    /// Sends what the socket takes; true when nothing waits any more. A message that cannot be sent at all is dropped:
    /// nothing depends on one alone.
    pub fn flush(&mut self) -> bool {
        while let Some((text, fd)) = self.waiting.front() {
            let passed: Vec<_> = fd.iter().map(|fd| fd.as_fd()).collect();
            match fds::send(&self.socket, text, &passed) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) if error.raw_os_error() == Some(libc::ETOOMANYREFS) => return false,
                Ok(_) | Err(_) => {}
            }
            self.waiting.pop_front();
        }
        true
    }
}

/// How often this process has to say `WATCHDOG=1`; none if nobody waits for it.
#[must_use]
pub fn watchdog() -> Option<Millis> {
    let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    if number("WATCHDOG_PID").is_some_and(|pid| pid != u64::from(std::process::id())) {
        return None;
    }
    number("WATCHDOG_USEC")
        .map(|micros| Millis(micros / 1000))
        .filter(|interval| interval.0 > 0)
}

/// Takes over the descriptors that the service manager kept for this process, with their names. Call it once, and
/// before anything else opens descriptors.
#[must_use]
pub fn inherited() -> Vec<(String, OwnedFd)> {
    let number = |name| std::env::var(name).ok()?.parse::<u32>().ok();
    if number("LISTEN_PID") != Some(std::process::id()) {
        return Vec::new();
    }
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let numbers = (3..).take(number("LISTEN_FDS").unwrap_or(0) as usize);
    let named = numbers.zip(names.split(':').map(ToOwned::to_owned));
    named
        .filter_map(|(number, name)| Some((name, fds::lift(fds::inherited(number).ok()?, 64))))
        .collect()
}

/// True if a descriptor may be kept under this name (`FDNAME=`).
#[must_use]
pub fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 255 && name.bytes().all(|byte| matches!(byte, 33..=126) && byte != b':')
}

#[cfg(test)]
mod tests {
    use super::{Notifier, is_name};
    use crate::os::{fds, notify::NotifySocket};
    use std::os::fd::{AsFd, OwnedFd};
    use std::os::unix::net::UnixDatagram;
    use std::sync::Arc;

    #[test]
    fn messages_and_descriptors_arrive() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("n");
        let server = UnixDatagram::bind(&path).unwrap();
        let mut notifier = Notifier::connect(path.as_os_str()).unwrap();
        let (read, write) = fds::pipe().unwrap();
        notifier.queue(b"FDSTORE=1\nFDNAME=a".to_vec(), Some(Arc::new(write)));
        assert!(notifier.flush());
        let mut received: Vec<OwnedFd> = Vec::new();
        let mut buffer = [0; 100];
        let got = fds::receive(&server, &mut buffer, &mut received).unwrap();
        assert_eq!(&buffer[..got.bytes], b"FDSTORE=1\nFDNAME=a");
        rustix::io::write(received[0].as_fd(), b"x").unwrap();
        assert_eq!(rustix::io::read(&read, &mut buffer).unwrap(), 1);
    }

    #[test]
    fn a_busy_manager_is_waited_for_and_a_dead_one_forgotten() {
        let name = format!("clmgr-service-{}", std::process::id());
        let server = NotifySocket::bind_abstract(name.as_bytes()).unwrap();
        let mut notifier = Notifier::connect(format!("@{name}").as_ref()).unwrap();
        for number in 0..2_000 {
            notifier.queue(format!("X={number}").into_bytes(), None);
        }
        let mut next = 0;
        loop {
            let done = notifier.flush();
            while let Some(message) = server.recv().unwrap() {
                assert_eq!(message.text, format!("X={next}").into_bytes());
                next += 1;
            }
            if done {
                break;
            }
        }
        assert_eq!(next, 2_000);
        drop(server);
        notifier.queue(b"READY=1".to_vec(), None);
        assert!(notifier.flush(), "nobody is there to wait for");
        assert!(Notifier::connect(format!("@{name}").as_ref()).is_err());
        assert!(Notifier::connect("vsock:2:1234".as_ref()).is_err());
    }

    #[test]
    fn names_that_are_kept() {
        assert!(
            is_name("run/7/stdin") && !is_name("a:b") && !is_name("") && !is_name("ä") && !is_name(&"x".repeat(256))
        );
    }
}
