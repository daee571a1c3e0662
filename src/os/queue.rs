//! Who waits in the queue of a listening socket, and which sockets a process tree holds: what it takes to see from
//! outside whether a server accepts.
//!
//! The kernel tells by `NETLINK_SOCK_DIAG`. Of TCP it lists the established connections of a port that no process has
//! accepted yet (they have no inode), those of all sockets that listen there; of a Unix socket exactly its own.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, sockopt};

use crate::os::listening::{inet, lines, socket_inode};
use crate::os::{fds, procfs, socket};

/// Message types of netlink.
const ERROR: u16 = 2;
const DONE: u16 = 3;
const BY_FAMILY: u16 = 20;
/// States of TCP: established, and closed by the other end only. A connection in another state waits for nobody.
const STATES: [u8; 2] = [1, 8];
/// Attributes of a Unix socket: the inodes of those who wait to be accepted, and how many.
const ICONS: u16 = 3;
const LENGTHS: u16 = 4;
/// The bytes of a netlink header.
const HEADER: usize = 16;

/// The queue of a listening socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Queue {
    /// Connections that wait on this very socket.
    pub depth: u32,
    /// Who waits: numbers that no two connections share. For TCP of all sockets of this port.
    pub waiting: BTreeSet<u64>,
}

/// How many connections wait on a listening TCP or Unix socket. `None` where the kernel does not tell.
#[must_use]
pub fn depth(listener: impl AsFd) -> Option<u32> {
    match sockopt::socket_domain(&listener).ok()? {
        AddressFamily::INET | AddressFamily::INET6 => socket::queued(listener),
        AddressFamily::UNIX => Some(unix(&listener, false)?.depth),
        _ => None,
    }
}

/// How many, and who. `None` where the kernel does not tell.
#[must_use]
pub fn queue(listener: impl AsFd) -> Option<Queue> {
    if sockopt::socket_domain(&listener).ok()? == AddressFamily::UNIX {
        return unix(&listener, true);
    }
    let depth = socket::queued(&listener)?;
    let local = SocketAddr::try_from(rustix::net::getsockname(&listener).ok()?).ok()?;
    let waiting = match dump(&inet_request(local)) {
        Ok(messages) => messages.iter().filter_map(|row| waits(row, local)).collect(),
        // No such module, or none in this container.
        Err(_) => table(local),
    };
    Some(Queue { depth, waiting })
}

/// `struct nlmsghdr` and `struct inet_diag_req_v2` for the connections of a port.
fn inet_request(local: SocketAddr) -> Vec<u8> {
    let family = match local.ip() {
        IpAddr::V4(_) => libc::AF_INET,
        IpAddr::V6(_) => libc::AF_INET6,
    };
    let states = STATES.iter().fold(0_u32, |mask, state| mask | 1 << state);
    let mut body = vec![byte(family), byte(libc::IPPROTO_TCP), 0, 0];
    body.extend(states.to_ne_bytes());
    body.extend(local.port().to_be_bytes());
    // Any peer, any address, any interface, no cookie.
    body.extend([0; 2 + 32 + 4 + 8]);
    message(&body, libc::NLM_F_REQUEST | libc::NLM_F_DUMP)
}

fn byte(value: i32) -> u8 {
    u8::try_from(value).unwrap_or(0)
}

fn message(body: &[u8], flags: i32) -> Vec<u8> {
    let length = u32::try_from(HEADER + body.len()).unwrap_or(0);
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(BY_FAMILY.to_ne_bytes());
    bytes.extend(u16::try_from(flags).unwrap_or(0).to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend(body);
    bytes
}

/// Sends a request to the kernel; the bodies of its answers.
fn dump(request: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    let (socket, mut found) = (diag()?, Vec::new());
    rustix::net::send(&socket, request, SendFlags::empty())?;
    let mut buffer = vec![0; 32 * 1024];
    loop {
        // The kernel answers before it returns from the request; this never waits.
        let (_, length) = rustix::net::recv(&socket, buffer.as_mut_slice(), RecvFlags::DONTWAIT)?;
        if !parts(buffer.get(..length).unwrap_or_default(), &mut found)? {
            return Ok(found);
        }
    }
}

fn diag() -> rustix::io::Result<OwnedFd> {
    rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )
}

/// Takes a datagram of netlink messages apart; false when there are no more to come.
fn parts(mut bytes: &[u8], found: &mut Vec<Vec<u8>>) -> io::Result<bool> {
    let mut more = false;
    while let (Some(length), Some(kind), Some(flags)) = (u32_at(bytes, 0), u16_at(bytes, 4), u16_at(bytes, 6)) {
        let length = length as usize;
        let Some(body) = bytes.get(HEADER..length) else { break };
        match kind {
            DONE => return Ok(false),
            ERROR => {
                let code = u32_at(body, 0).map_or(libc::EIO, |code| code.cast_signed().wrapping_neg());
                return Err(io::Error::from_raw_os_error(code));
            }
            _ => found.push(body.to_vec()),
        }
        more |= flags & u16::try_from(libc::NLM_F_MULTI).unwrap_or(0) != 0;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(more)
}

/// The cookie of a `struct inet_diag_msg` that nobody has accepted and that came to this address.
fn waits(row: &[u8], local: SocketAddr) -> Option<u64> {
    let state = *row.get(1)?;
    let (port, address) = (u16::from_be_bytes(array(row, 4)?), array::<16>(row, 8)?);
    let to_us = match local.ip() {
        IpAddr::V4(wanted) => wanted.is_unspecified() || address.starts_with(&wanted.octets()),
        IpAddr::V6(wanted) => wanted.is_unspecified() || address == wanted.octets(),
    };
    let waits = STATES.contains(&state) && u32_at(row, 68)? == 0 && port == local.port() && to_us;
    waits.then(|| array(row, 44).map(u64::from_ne_bytes))?
}

/// The same from `/proc/net/tcp` and `tcp6`. A connection is known by its peer there.
fn table(local: SocketAddr) -> BTreeSet<u64> {
    let name = if local.is_ipv4() { "tcp" } else { "tcp6" };
    let text = std::fs::read(format!("/proc/self/net/{name}")).unwrap_or_default();
    lines(&text).filter_map(|line| table_row(line, local)).collect()
}

fn table_row(line: &[u8], local: SocketAddr) -> Option<u64> {
    let entry = inet(line)?;
    let to_us = entry.local.port() == local.port() && (local.ip().is_unspecified() || entry.local.ip() == local.ip());
    let waits = STATES.contains(&entry.state) && entry.inode == 0 && to_us;
    waits.then(|| {
        let mut hasher = DefaultHasher::new();
        (entry.local, entry.peer).hash(&mut hasher);
        hasher.finish()
    })
}

/// `struct unix_diag_req` for one socket, which the kernel finds by its inode.
fn unix(listener: impl AsFd, who: bool) -> Option<Queue> {
    let inode = u32::try_from(fds::inode(&listener).ok()?).ok()?;
    let shown: u32 = if who { 1 << ICONS | 1 << LENGTHS } else { 1 << LENGTHS };
    let mut body = vec![byte(libc::AF_UNIX), 0, 0, 0];
    body.extend(u32::MAX.to_ne_bytes());
    body.extend(inode.to_ne_bytes());
    body.extend(shown.to_ne_bytes());
    // Whichever cookie it has.
    body.extend([0xFF; 8]);
    let found = dump(&message(&body, libc::NLM_F_REQUEST)).ok()?;
    unix_queue(found.first()?)
}

/// From a `struct unix_diag_msg` with its attributes.
fn unix_queue(row: &[u8]) -> Option<Queue> {
    let mut queue = Queue::default();
    let (mut rest, mut told) = (row.get(16..)?, false);
    while let (Some(length), Some(kind)) = (u16_at(rest, 0), u16_at(rest, 2)) {
        let length = usize::from(length);
        let Some(value) = rest.get(4..length) else { break };
        match kind {
            LENGTHS => {
                queue.depth = u32_at(value, 0)?;
                told = true;
            }
            // Those who are gone already have none.
            ICONS => {
                let inodes = value.chunks_exact(4).filter_map(|part| u32_at(part, 0));
                queue.waiting = inodes.filter(|inode| *inode != 0).map(u64::from).collect();
            }
            _ => {}
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    told.then_some(queue)
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_ne_bytes)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_ne_bytes)
}

/// Inode numbers of the sockets that a process, its descendants, and its orphans at `reaper` hold: those of its session
/// and those that began with `mark` (`NAME=value`) in their environment. `None` when one of them may not be looked at.
#[must_use]
pub fn held_sockets(leader: i32, reaper: i32, mark: &[u8]) -> Option<BTreeSet<u64>> {
    let orphans = procfs::children(reaper).into_iter().filter(|pid| {
        let stat = procfs::stat(*pid);
        stat.is_some_and(|stat| stat.session == leader) || procfs::environ_has(*pid, mark)
    });
    let mut queue: Vec<i32> = orphans.chain([leader]).collect();
    let (mut seen, mut found) = (BTreeSet::new(), BTreeSet::new());
    while let Some(pid) = queue.pop() {
        if seen.insert(pid) {
            collect_sockets(pid, &mut found)?;
            queue.extend(procfs::children(pid));
        }
    }
    Some(found)
}

fn collect_sockets(pid: i32, found: &mut BTreeSet<u64>) -> Option<()> {
    match std::fs::read_dir(format!("/proc/{pid}/fd")) {
        Ok(entries) => {
            let links = entries.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
            found.extend(links.filter_map(|link| socket_inode(&link)));
            Some(())
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => None,
        // It has ended.
        Err(_) => Some(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Queue, depth, held_sockets, parts, queue, table, unix_queue, waits};
    use proptest::prelude::{any, proptest};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::os::unix::net::{UnixListener, UnixStream};

    fn tcp(address: &str) {
        let Ok(listener) = TcpListener::bind(address) else {
            return;
        };
        let local = listener.local_addr().unwrap();
        assert_eq!(queue(&listener), Some(Queue::default()));
        let first = TcpStream::connect(local).unwrap();
        let before = queue(&listener).unwrap();
        assert_eq!((before.depth, before.waiting.len()), (1, 1));
        let second = TcpStream::connect(local).unwrap();
        // Half closed is still waiting.
        second.shutdown(std::net::Shutdown::Write).unwrap();
        let both = queue(&listener).unwrap();
        assert_eq!((both.depth, both.waiting.len()), (2, 2));
        assert!(both.waiting.is_superset(&before.waiting));
        assert_eq!(table(local).len(), 2);
        let (accepted, _) = listener.accept().unwrap();
        let after = queue(&listener).unwrap();
        assert_eq!((after.depth, after.waiting.len(), depth(&listener)), (1, 1, Some(1)));
        assert!(after.waiting.is_disjoint(&before.waiting));
        assert_eq!(table(local).len(), 1);
        drop((first, accepted));
        assert_eq!(queue(&listener).unwrap(), after);
    }

    #[test]
    fn tcp_connections_wait_until_they_are_accepted() {
        tcp("127.0.0.1:0");
        tcp("0.0.0.0:0");
        tcp("[::1]:0");
        tcp("[::]:0");
    }

    #[test]
    fn other_addresses_of_the_port_are_not_ours() {
        let here = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = here.local_addr().unwrap().port();
        let Ok(there) = TcpListener::bind(("127.0.0.2", port)) else {
            return;
        };
        let _client = TcpStream::connect(there.local_addr().unwrap()).unwrap();
        assert_eq!(queue(&here), Some(Queue::default()));
        assert!(table(here.local_addr().unwrap()).is_empty());
        assert_eq!(queue(&there).unwrap().waiting.len(), 1);
    }

    #[test]
    fn unix_connections_wait_until_they_are_accepted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        assert_eq!(queue(&listener), Some(Queue::default()));
        let _first = UnixStream::connect(&path).unwrap();
        let before = queue(&listener).unwrap();
        let _second = UnixStream::connect(&path).unwrap();
        let both = queue(&listener).unwrap();
        assert_eq!((both.depth, both.waiting.len()), (2, 2));
        assert!(both.waiting.is_superset(&before.waiting));
        let _accepted = listener.accept().unwrap();
        let after = queue(&listener).unwrap();
        assert_eq!((after.depth, depth(&listener)), (1, Some(1)));
        assert!(after.waiting.is_disjoint(&before.waiting));
    }

    #[test]
    fn what_is_no_listener_has_no_queue() {
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!((depth(&udp), queue(&udp)), (None, None));
        assert_eq!(depth(std::fs::File::open("/dev/null").unwrap()), None);
    }

    #[test]
    fn a_tree_holds_the_sockets_of_its_children() {
        let me = i32::try_from(std::process::id()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let inode = crate::os::fds::inode(&listener).unwrap();
        assert!(held_sockets(me, 0, b"").unwrap().contains(&inode));
        drop(listener);
        assert!(!held_sockets(me, 0, b"").unwrap().contains(&inode));
        assert!(held_sockets(i32::MAX, 0, b"").unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn rubbish_is_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let local: SocketAddr = "0.0.0.0:80".parse().unwrap();
            let _ = parts(&bytes, &mut Vec::new());
            let _ = waits(&bytes, local);
            let _ = unix_queue(&bytes);
            let _ = super::table_row(&bytes, local);
        }
    }
}
