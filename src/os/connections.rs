//! Connections that are open to an address of this machine, as its server has them: accepted ones, and those that wait
//! to be.
//!
//! TCP is asked of the kernel's socket diagnosis, port by port: on a machine with many connections that is far less to
//! read than `/proc/net/tcp`, which is read where the diagnosis is not allowed.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};

use crate::model::listen::Address;
use crate::os::listening::{inet, lines, unix_row};

/// A connection of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The server's side.
    pub local: SocketAddr,
    /// A process has accepted it.
    pub accepted: bool,
}

/// States in which a server may still have something to say: established, and half closed by the client.
const ESTABLISHED: u8 = 1;
const CLOSE_WAIT: u8 = 8;
/// `SS_CONNECTING`, which is shown of one that waits to be accepted, and `SS_CONNECTED`.
const UNIX_OPEN: [u8; 2] = [2, 3];

/// How many connections to these addresses are open. The ports of TCP addresses are those that are bound; UDP has no
/// connections.
///
/// # Errors
/// The kernel's tables cannot be read.
pub fn open_to(addresses: &[Address]) -> io::Result<usize> {
    let mut count = 0;
    let mut ports: Vec<u16> = Vec::new();
    for address in addresses {
        match address {
            Address::Tcp(inet) if !ports.contains(&inet.port()) => ports.push(inet.port()),
            Address::Tcp(_) | Address::Udp(_) => {}
            Address::Unix(path) => count += to_unix(path.as_bytes())?,
            Address::Abstract(name) => count += to_unix(&abstract_name(name))?,
        }
    }
    for port in ports {
        let meant = |local: SocketAddr| {
            addresses.iter().any(|address| match address {
                Address::Tcp(bound) => covers(*bound, local),
                Address::Udp(_) | Address::Unix(_) | Address::Abstract(_) => false,
            })
        };
        count += to_port(port)?.iter().filter(|one| meant(one.local)).count();
    }
    Ok(count)
}

/// The connections whose server's side has this TCP port, of both families.
///
/// # Errors
/// The kernel's tables cannot be read.
pub fn to_port(port: u16) -> io::Result<Vec<Connection>> {
    match diagnosed(port) {
        Ok(found) => Ok(found),
        Err(_) => read_tables(port),
    }
}

/// A connection with this local address may have come over a socket that is bound like that.
fn covers(bound: SocketAddr, local: SocketAddr) -> bool {
    let (ip, other) = (bound.ip().to_canonical(), local.ip().to_canonical());
    bound.port() == local.port() && (ip.is_unspecified() || ip == other)
}

/// As the kernel's tables show it.
fn abstract_name(name: &str) -> Vec<u8> {
    let mut shown = vec![b'@'];
    shown.extend(name.as_bytes().iter().map(|byte| if *byte == 0 { b'@' } else { *byte }));
    shown
}

fn to_unix(path: &[u8]) -> io::Result<usize> {
    let text = std::fs::read("/proc/net/unix")?;
    let rows = lines(&text).filter_map(unix_row);
    Ok(rows
        .filter(|row| UNIX_OPEN.contains(&row.state) && !row.listens && row.path == path)
        .count())
}

fn read_tables(port: u16) -> io::Result<Vec<Connection>> {
    let mut text = std::fs::read("/proc/net/tcp")?;
    // A machine without IPv6 has no tcp6.
    let more = std::fs::read("/proc/net/tcp6").unwrap_or_default();
    text.push(b'\n');
    text.extend(more);
    let rows = lines(&text).filter_map(inet);
    Ok(rows
        .filter(|row| row.local.port() == port && matches!(row.state, ESTABLISHED | CLOSE_WAIT))
        .map(|row| Connection {
            local: row.local,
            accepted: row.inode != 0,
        })
        .collect())
}

/// `nlmsghdr`, in bytes.
const HEADER: usize = 16;
/// `SOCK_DIAG_BY_FAMILY`.
const BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST | NLM_F_DUMP`.
const DUMP: u16 = 0x301;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const IPPROTO_TCP: u8 = 6;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

fn diagnosed(port: u16) -> io::Result<Vec<Connection>> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        Some(SOCK_DIAG),
    )?;
    let mut found = Vec::new();
    for family in [AF_INET, AF_INET6] {
        sendto(
            &socket,
            &question(family, port),
            SendFlags::empty(),
            &SocketAddrNetlink::new(0, 0),
        )?;
        answers(&socket, &mut found)?;
    }
    Ok(found)
}

/// `nlmsghdr` and `inet_diag_req_v2`: all sockets with this local port in one of the two states.
fn question(family: u8, port: u16) -> [u8; HEADER + 56] {
    let mut bytes = [0; HEADER + 56];
    let length = u32::try_from(bytes.len()).unwrap_or(0);
    bytes[0..4].copy_from_slice(&length.to_ne_bytes());
    bytes[4..6].copy_from_slice(&BY_FAMILY.to_ne_bytes());
    bytes[6..8].copy_from_slice(&DUMP.to_ne_bytes());
    bytes[16] = family;
    bytes[17] = IPPROTO_TCP;
    let states: u32 = 1 << ESTABLISHED | 1 << CLOSE_WAIT;
    bytes[20..24].copy_from_slice(&states.to_ne_bytes());
    bytes[24..26].copy_from_slice(&port.to_be_bytes());
    bytes
}

/// Reads one dump to its end. The kernel answers from memory: nothing here waits for anybody else.
fn answers(socket: &OwnedFd, found: &mut Vec<Connection>) -> io::Result<()> {
    let mut buffer = vec![0; 32 << 10];
    loop {
        let (count, _) = recv(socket.as_fd(), &mut buffer[..], RecvFlags::empty())?;
        let mut rest = buffer.get(..count).unwrap_or_default();
        if rest.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        while let Some((kind, body, next)) = message(rest) {
            match kind {
                NLMSG_DONE => return Ok(()),
                NLMSG_ERROR => return Err(io::ErrorKind::Unsupported.into()),
                BY_FAMILY => found.extend(connection(body)),
                _ => {}
            }
            rest = next;
        }
    }
}

/// The first message: its type, its body, and what follows.
fn message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(bytes.get(0..4)?.try_into().ok()?) as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let body = bytes.get(HEADER..length)?;
    let next = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, body, next))
}

/// `inet_diag_msg`: family, state, two bytes, ports (big endian), addresses, …, inode.
fn connection(body: &[u8]) -> Option<Connection> {
    let port = u16::from_be_bytes(body.get(4..6)?.try_into().ok()?);
    let ip = if *body.first()? == AF_INET {
        IpAddr::from(<[u8; 4]>::try_from(body.get(8..12)?).ok()?)
    } else {
        IpAddr::from(<[u8; 16]>::try_from(body.get(8..24)?).ok()?)
    };
    let inode = u32::from_ne_bytes(body.get(68..72)?.try_into().ok()?);
    Some(Connection {
        local: SocketAddr::new(ip, port),
        accepted: inode != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::{covers, diagnosed, open_to, read_tables};
    use crate::model::listen::Address;
    use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
    use std::os::unix::net::{UnixListener, UnixStream};

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    #[test]
    fn accepted_and_waiting_connections_are_told_apart() {
        for bind in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(bind) else {
                continue;
            };
            let local = listener.local_addr().unwrap();
            for look in [diagnosed, read_tables] {
                assert_eq!(look(local.port()).unwrap(), []);
                let waiting = TcpStream::connect(local).unwrap();
                let seen = look(local.port()).unwrap();
                assert_eq!((seen.len(), seen[0].local, seen[0].accepted), (1, local, false));
                let (accepted, _) = listener.accept().unwrap();
                assert!(look(local.port()).unwrap()[0].accepted);
                // Half closed: the server may still answer.
                waiting.shutdown(Shutdown::Write).unwrap();
                assert_eq!(look(local.port()).unwrap().len(), 1);
                drop(accepted);
                assert_eq!(look(local.port()).unwrap(), []);
            }
        }
    }

    #[test]
    fn only_the_addresses_asked_for_count() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        // More than one answer of the kernel has room for.
        let _both: Vec<_> = (0..400)
            .map(|_| {
                (
                    TcpStream::connect(("127.0.0.1", port)).unwrap(),
                    listener.accept().unwrap(),
                )
            })
            .collect();
        let count = |text: &str| open_to(&[address(text)]).unwrap();
        assert_eq!(count(&format!("127.0.0.1:{port}")), 400);
        assert_eq!(count(&format!("0.0.0.0:{port}")), 400);
        assert_eq!(count(&format!("[::]:{port}")), 400);
        assert_eq!(count(&format!("127.0.0.2:{port}")), 0);
        assert_eq!(count(&format!("udp:127.0.0.1:{port}")), 0);
        let both = [address(&format!("0.0.0.0:{port}")), address(&format!("[::]:{port}"))];
        assert_eq!(open_to(&both).unwrap(), 400);
    }

    #[test]
    fn unix_sockets_have_connections_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a socket");
        let listener = UnixListener::bind(&path).unwrap();
        let here = [address(&format!("unix:{}", path.display()))];
        assert_eq!(open_to(&here).unwrap(), 0);
        let client = UnixStream::connect(&path).unwrap();
        assert_eq!(open_to(&here).unwrap(), 1);
        let (server, _) = listener.accept().unwrap();
        assert_eq!(open_to(&here).unwrap(), 1);
        drop((client, server));
        assert_eq!(open_to(&here).unwrap(), 0);
    }

    #[test]
    fn a_mapped_address_is_the_address_itself() {
        let of = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert!(covers(of("127.0.0.1:80"), of("[::ffff:127.0.0.1]:80")));
        assert!(covers(of("[::]:80"), of("[::ffff:10.0.0.1]:80")));
        assert!(!covers(of("[::1]:80"), of("[::ffff:127.0.0.1]:80")));
        assert!(!covers(of("0.0.0.0:80"), of("10.0.0.1:81")));
    }
}
