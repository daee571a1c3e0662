//! Which sockets a process listens on.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// The state of a listening TCP socket in `/proc/net/tcp`.
pub(super) const LISTEN: u8 = 0x0A;

/// A socket that accepts connections.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Listening {
    /// TCP, v4 or v6.
    Tcp(SocketAddr),
    /// A Unix stream or packet socket. An abstract name begins with `@`.
    Unix(PathBuf),
}

/// The listening sockets that any of these processes holds, each once, in order. Processes that are gone
/// or not ours hold none.
#[must_use]
pub fn listening(pids: &[i32]) -> Vec<Listening> {
    listening_besides(pids, &BTreeSet::new())
}

/// The same without the sockets of these inode numbers.
#[must_use]
pub fn listening_besides(pids: &[i32], known: &BTreeSet<u64>) -> Vec<Listening> {
    // Sockets are numbered across namespaces, but listed per namespace: ask one process of each.
    let mut namespaces: BTreeMap<OsString, (i32, BTreeSet<u64>)> = BTreeMap::new();
    for pid in pids {
        let inodes: BTreeSet<u64> = sockets(*pid).difference(known).copied().collect();
        if inodes.is_empty() {
            continue;
        }
        let namespace = std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap_or_default();
        let entry = namespaces
            .entry(namespace.into_os_string())
            .or_insert((*pid, BTreeSet::new()));
        entry.1.extend(inodes);
    }
    let mut found = BTreeSet::new();
    for (pid, inodes) in namespaces.values() {
        for table in ["tcp", "tcp6"] {
            let text = listeners(Path::new(&format!("/proc/{pid}/net/{table}")));
            found.extend(lines(&text).filter_map(|line| tcp(line, inodes)));
        }
        let text = std::fs::read(format!("/proc/{pid}/net/unix")).unwrap_or_default();
        found.extend(lines(&text).filter_map(|line| unix(line, inodes)));
    }
    found.into_iter().collect()
}

/// The numbers of the sockets among a process's descriptors, as far as this user may look.
#[must_use]
pub fn sockets_by_number(pid: i32) -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fd")) else {
        return Vec::new();
    };
    let is_socket = |entry: &std::fs::DirEntry| {
        std::fs::read_link(entry.path()).is_ok_and(|target| target.as_os_str().as_bytes().starts_with(b"socket:"))
    };
    let sockets = entries.filter_map(Result::ok).filter(is_socket);
    let mut numbers: Vec<i32> = sockets
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    numbers.sort_unstable();
    numbers
}

/// Inode numbers of the sockets a process holds, as far as this user may look.
pub(super) fn sockets(pid: i32) -> BTreeSet<u64> {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fd")) else {
        return BTreeSet::new();
    };
    entries
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|link| socket_inode(&link))
        .collect()
}

/// The inode number of a socket, from what a link in `/proc/PID/fd` says.
pub(super) fn socket_inode(link: &Path) -> Option<u64> {
    let bytes = link.as_os_str().as_bytes();
    number(bytes.strip_prefix(b"socket:[")?.strip_suffix(b"]")?)
}

/// The beginning of a table of TCP sockets, with all that listen: they come first. A busy server's machine has tens of
/// thousands of others, most of them in TIME_WAIT, and reading those takes seconds.
fn listeners(table: &Path) -> Vec<u8> {
    let (mut text, mut chunk) = (Vec::new(), vec![0; 1 << 16]);
    // A machine without IPv6 has no tcp6.
    let Ok(mut file) = File::open(table) else { return text };
    while let Ok(count @ 1..) = file.read(&mut chunk) {
        text.extend_from_slice(&chunk[..count]);
        // What ends the text may be half a line.
        let last = lines(&text).filter_map(inet).last();
        if last.is_some_and(|entry| entry.state != LISTEN) {
            break;
        }
    }
    text
}

/// The lines of a table, without its head.
pub(super) fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n').skip(1)
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A line of `/proc/net/tcp` and its like, for one that listens (or, for UDP, is bound only).
pub(super) struct Inet {
    pub(super) local: SocketAddr,
    pub(super) peer: SocketAddr,
    pub(super) state: u8,
    pub(super) inode: u64,
}

/// `sl local_address rem_address st queues timer retrnsmt uid timeout inode …`; state 0A is LISTEN.
pub(super) fn inet(line: &[u8]) -> Option<Inet> {
    let text = std::str::from_utf8(line).ok()?;
    let mut fields = text.split_ascii_whitespace();
    let local = address(fields.nth(1)?)?;
    let peer = address(fields.next()?)?;
    let state = u8::from_str_radix(fields.next()?, 16).ok()?;
    let inode = fields.nth(5)?.parse().ok()?;
    Some(Inet {
        local,
        peer,
        state,
        inode,
    })
}

/// `0100007F:1F90`.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    // Each group of eight digits is a 32-bit word as this machine stores it.
    let word = |at: usize| {
        u32::from_str_radix(address.get(at * 8..at * 8 + 8)?, 16)
            .ok()
            .map(u32::to_ne_bytes)
    };
    let address = if address.len() == 8 {
        IpAddr::from(Ipv4Addr::from(word(0)?))
    } else {
        let mut bytes = [0; 16];
        for (at, part) in bytes.chunks_exact_mut(4).enumerate() {
            part.copy_from_slice(&word(at)?);
        }
        IpAddr::from(Ipv6Addr::from(bytes))
    };
    Some(SocketAddr::new(address, port))
}

fn tcp(line: &[u8], inodes: &BTreeSet<u64>) -> Option<Listening> {
    let entry = inet(line).filter(|entry| entry.state == LISTEN && inodes.contains(&entry.inode))?;
    Some(Listening::Tcp(entry.local))
}

fn unix(line: &[u8], inodes: &BTreeSet<u64>) -> Option<Listening> {
    let (inode, path) = unix_listener(line)?;
    inodes
        .contains(&inode)
        .then(|| Listening::Unix(OsString::from_vec(path.to_vec()).into()))
}

/// Inode and path of a listening Unix socket.
pub(super) fn unix_listener(line: &[u8]) -> Option<(u64, &[u8])> {
    let row = unix_row(line).filter(|row| row.listens)?;
    Some((row.inode, row.path))
}

/// A line of `/proc/net/unix` about a socket with a name.
pub(super) struct UnixRow<'l> {
    pub(super) listens: bool,
    pub(super) state: u8,
    pub(super) inode: u64,
    pub(super) path: &'l [u8],
}

/// `Num RefCount Protocol Flags Type St Inode Path`; flag 0x10000 is `SO_ACCEPTCON`. The path is the rest of the line,
/// spaces included.
pub(super) fn unix_row(line: &[u8]) -> Option<UnixRow<'_>> {
    let mut rest = line;
    let mut fields = [b"" as &[u8]; 7];
    for field in &mut fields {
        rest = rest.trim_ascii_start();
        let end = rest.iter().position(|byte| *byte == b' ').unwrap_or(rest.len());
        (*field, rest) = rest.split_at(end);
    }
    let hex = |field: &[u8]| u32::from_str_radix(std::str::from_utf8(field).ok()?, 16).ok();
    Some(UnixRow {
        listens: hex(fields[3])? & 0x10000 != 0,
        state: u8::try_from(hex(fields[5])?).ok()?,
        inode: number(fields[6])?,
        path: rest.strip_prefix(b" ")?,
    })
}

#[cfg(test)]
mod tests {
    use super::{Listening, listening, tcp, unix};
    use std::collections::BTreeSet;
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;
    use std::path::Path;

    #[test]
    fn finds_this_process_and_only_listeners() {
        let me = i32::try_from(std::process::id()).unwrap();
        let v4 = TcpListener::bind("127.0.0.1:0").unwrap();
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("a socket");
        let _unix = UnixListener::bind(&path).unwrap();
        let client = std::net::TcpStream::connect(v4.local_addr().unwrap()).unwrap();
        let found = listening(&[me, me, 0, i32::MAX]);
        assert!(found.contains(&Listening::Tcp(v4.local_addr().unwrap())), "{found:?}");
        assert!(found.contains(&Listening::Unix(path)), "{found:?}");
        assert!(!found.contains(&Listening::Tcp(client.local_addr().unwrap())));
        if let Ok(v6) = TcpListener::bind("[::1]:0") {
            assert!(listening(&[me]).contains(&Listening::Tcp(v6.local_addr().unwrap())));
        }
    }

    #[test]
    fn reads_the_tables() {
        let inodes = BTreeSet::from([9]);
        let line = b"   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0  0 9 1 0";
        if cfg!(target_endian = "little") {
            assert_eq!(
                tcp(line, &inodes),
                Some(Listening::Tcp("127.0.0.1:8080".parse().unwrap()))
            );
        }
        assert_eq!(tcp(b"", &inodes), None);
        let line = b"0000: 00000002 00000000 00010000 0001 01     9 /a b";
        assert_eq!(unix(line, &inodes), Some(Listening::Unix(Path::new("/a b").into())));
        assert_eq!(unix(b"0: 2 0 00010000 0001 01 9", &inodes), None);
        assert_eq!(unix(b"0: 2 0 00000000 0001 01 9 /x", &inodes), None);
    }
}
