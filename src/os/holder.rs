//! Who has an address that somebody else wants: from the kernel's tables of sockets to processes.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::model::listen::{Address, ListenSpec};
use crate::os::listening::{LISTEN, inet, lines, sockets, unix_listener};
use crate::os::procfs;

/// A process that holds a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its pid.
    pub pid: i32,
    /// Its program's name, as the kernel knows it.
    pub program: String,
}

/// The processes that hold a socket which keeps this one from being bound: lowest pid first. Empty if there is
/// none, and where they are not visible to this user or in this namespace.
#[must_use]
pub fn holders(wanted: &ListenSpec) -> Vec<Holder> {
    let inodes = match &wanted.address {
        Address::Tcp(_) => network(wanted, ["tcp", "tcp6"], &|state| state == LISTEN),
        Address::Udp(_) => network(wanted, ["udp", "udp6"], &|_| true),
        Address::Unix(path) => unix(path.as_bytes()),
        Address::Abstract(name) => unix(&[b"@", name.as_bytes()].concat()),
    };
    if inodes.is_empty() {
        return Vec::new();
    }
    let mut found = BTreeMap::new();
    for pid in procfs::all_pids() {
        if sockets(pid).iter().any(|inode| inodes.contains(inode)) {
            let program = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            found.insert(pid, program.trim_end().to_owned());
        }
    }
    let holder = |(pid, program)| Holder { pid, program };
    found.into_iter().map(holder).collect()
}

fn table(name: &str) -> Vec<u8> {
    // A machine without IPv6 has no tcp6.
    std::fs::read(format!("/proc/self/net/{name}")).unwrap_or_default()
}

fn network(wanted: &ListenSpec, tables: [&str; 2], fits: &dyn Fn(u8) -> bool) -> Vec<u64> {
    let collides = |local: SocketAddr| {
        let address = match wanted.address {
            Address::Udp(_) => Address::Udp(local),
            Address::Tcp(_) | Address::Unix(_) | Address::Abstract(_) => Address::Tcp(local),
        };
        let mut other = ListenSpec::new(address);
        // The table does not say; of another family it is the one that stands in the way only if it is for both.
        other.v6_only = false;
        wanted.collides(&other)
    };
    let mut found = Vec::new();
    for name in tables {
        let text = table(name);
        let entries = lines(&text).filter_map(inet);
        found.extend(
            entries
                .filter(|entry| entry.inode != 0 && fits(entry.state) && collides(entry.local))
                .map(|entry| entry.inode),
        );
    }
    found
}

fn unix(path: &[u8]) -> Vec<u64> {
    let text = table("unix");
    let listeners = lines(&text).filter_map(unix_listener);
    listeners
        .filter(|(_, bound)| *bound == path)
        .map(|(inode, _)| inode)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::holders;
    use crate::model::listen::ListenSpec;
    use std::net::{TcpListener, UdpSocket};
    use std::os::unix::net::UnixListener;

    fn held(address: &str) -> Vec<i32> {
        let found = holders(&ListenSpec::new(address.parse().unwrap()));
        assert!(found.iter().all(|holder| !holder.program.is_empty()), "{found:?}");
        found.iter().map(|holder| holder.pid).collect()
    }

    #[test]
    fn finds_this_process() {
        let me = i32::try_from(std::process::id()).unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        assert_eq!(held(&format!("127.0.0.1:{port}")), [me]);
        assert_eq!(held(&format!("0.0.0.0:{port}")), [me]);
        assert_eq!(held(&format!("[::]:{port}")), [me]);
        assert!(held(&format!("127.0.0.2:{port}")).is_empty());
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = udp.local_addr().unwrap();
        assert_eq!(held(&format!("udp:{address}")), [me]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a socket");
        let _unix = UnixListener::bind(&path).unwrap();
        assert_eq!(held(&format!("unix:{}", path.display())), [me]);
        drop(tcp);
        assert!(held(&format!("127.0.0.1:{port}")).is_empty());
    }
}
