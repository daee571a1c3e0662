//! Listening sockets: binding them, looking at them, and who else has one.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode};
use rustix::net::sockopt;
use rustix::net::{AddressFamily, SocketAddrAny, SocketAddrUnix, SocketFlags, SocketType};

use crate::model::duration::Millis;
use crate::model::listen::{Address, ListenSpec};
use crate::os::fsx;

mod owner;

const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

/// Binds and listens; does not block and closes on exec. `port` stands for a port of 0. A Unix socket's file that
/// nobody listens on is replaced.
///
/// # Errors
/// As `bind`: `AddrInUse` when somebody has the address, also when somebody listens on the path.
/// `AlreadyExists` when the path is something else than a socket.
pub fn listen(spec: &ListenSpec, port: u16) -> io::Result<OwnedFd> {
    match &spec.address {
        Address::Tcp(address) => inet(spec, with_port(*address, port), SocketType::STREAM, false),
        Address::Udp(address) => inet(spec, with_port(*address, port), SocketType::DGRAM, false),
        Address::Unix(path) => unix(spec, path.as_path()),
        Address::Abstract(name) => {
            let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None)?;
            rustix::net::bind(&socket, &SocketAddrUnix::new_abstract_name(name.as_bytes())?)?;
            rustix::net::listen(&socket, backlog(spec))?;
            Ok(socket)
        }
    }
}

/// One more socket on the address and port of `first`, which is TCP or UDP: the kernel chooses between them
/// ([`reuseport`](crate::os::reuseport)). The first one was bound alone, so that an address that somebody else has is
/// not shared with him by accident.
///
/// # Errors
/// As `bind`.
pub fn join(spec: &ListenSpec, first: impl AsFd) -> io::Result<OwnedFd> {
    let taken = port(&first).ok_or(io::ErrorKind::InvalidInput)?;
    // What is asked when the next one is bound and at every choice, not what was said when this one was bound.
    sockopt::set_socket_reuseport(&first, true)?;
    match &spec.address {
        Address::Tcp(address) => inet(spec, with_port(*address, taken), SocketType::STREAM, true),
        Address::Udp(address) => inet(spec, with_port(*address, taken), SocketType::DGRAM, true),
        Address::Unix(_) | Address::Abstract(_) => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// Ends listening, whoever holds copies of the socket: it leaves its group now, and resets what waits.
pub fn unlisten(socket: impl AsFd) {
    // UDP sockets are not connected and say so, but leave their group all the same when they are closed.
    let _not_connected = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
}

/// Takes the next connection that waits on a listening socket; it does not block and closes on exec. `None`: nothing
/// waits. An app that has its copy of the socket block makes ours block, too, so it is asked first whether there is one.
///
/// # Errors
/// As `accept`; not what ails the connection alone.
pub fn accept(socket: impl AsFd) -> io::Result<Option<OwnedFd>> {
    use rustix::io::Errno;
    loop {
        if !crate::os::poll::readable(&socket, Millis::ZERO)? {
            return Ok(None);
        }
        match rustix::net::accept_with(&socket, FLAGS) {
            Ok(connection) => return Ok(Some(connection)),
            Err(Errno::AGAIN) => return Ok(None),
            Err(Errno::INTR | Errno::CONNABORTED) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

const fn with_port(mut address: SocketAddr, port: u16) -> SocketAddr {
    if address.port() == 0 {
        address.set_port(port);
    }
    address
}

fn backlog(spec: &ListenSpec) -> i32 {
    i32::try_from(spec.backlog).unwrap_or(i32::MAX)
}

fn inet(spec: &ListenSpec, address: SocketAddr, kind: SocketType, joins: bool) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let socket = rustix::net::socket_with(family, kind, FLAGS, None)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, spec.v6_only)?;
    }
    if joins {
        sockopt::set_socket_reuseport(&socket, true)?;
    }
    if kind == SocketType::STREAM {
        // Connections of a former owner that are not quite over do not matter. (For UDP it would let two have it.)
        sockopt::set_socket_reuseaddr(&socket, true)?;
        rustix::net::bind(&socket, &address)?;
        rustix::net::listen(&socket, backlog(spec))?;
    } else {
        rustix::net::bind(&socket, &address)?;
    }
    Ok(socket)
}

fn unix(spec: &ListenSpec, path: &Path) -> io::Result<OwnedFd> {
    let name = SocketAddrUnix::new(path)?;
    match rustix::fs::lstat(path).map(|stat| FileType::from_raw_mode(stat.st_mode)) {
        Ok(FileType::Socket) if is_stale(&name) => fsx::remove_file(path)?,
        Ok(FileType::Socket) => return Err(io::ErrorKind::AddrInUse.into()),
        Ok(_) => return Err(io::ErrorKind::AlreadyExists.into()),
        Err(rustix::io::Errno::NOENT) => {}
        Err(errno) => return Err(errno.into()),
    }
    let owner = owner::Owner::of(spec)?;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None)?;
    if let Some(mode) = spec.mode {
        // Before it has a name, so that the file never allows more; the umask may take from it, which is then undone.
        rustix::fs::fchmod(&socket, Mode::from_raw_mode(mode))?;
    }
    rustix::net::bind(&socket, &name)?;
    let opened = owner.give(path).and_then(|()| match spec.mode {
        Some(mode) => Ok(rustix::fs::chmod(path, Mode::from_raw_mode(mode))?),
        None => Ok(()),
    });
    match opened.and_then(|()| Ok(rustix::net::listen(&socket, backlog(spec))?)) {
        Ok(()) => Ok(socket),
        Err(error) => {
            fsx::remove_file(path)?;
            Err(error)
        }
    }
}

/// Nobody listens on it.
fn is_stale(name: &SocketAddrUnix) -> bool {
    let probe = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None);
    probe.is_ok_and(|probe| rustix::net::connect(probe, name) == Err(rustix::io::Errno::CONNREFUSED))
}

/// Gives a bound socket what may change of it: backlog, owner and permissions.
///
/// # Errors
/// As `listen`, `chown` and `chmod`.
pub fn adjust(socket: impl AsFd, spec: &ListenSpec) -> io::Result<()> {
    if !matches!(spec.address, Address::Udp(_)) {
        rustix::net::listen(&socket, backlog(spec))?;
    }
    if let Address::Unix(path) = &spec.address {
        owner::Owner::of(spec)?.give(path.as_path())?;
    }
    if let (Address::Unix(path), Some(mode)) = (&spec.address, spec.mode) {
        rustix::fs::chmod(path.as_path(), Mode::from_raw_mode(mode))?;
    }
    Ok(())
}

/// True if this is the socket that the spec means: kind, family, address, and it listens.
#[must_use]
pub fn is(socket: impl AsFd, spec: &ListenSpec) -> bool {
    let socket = socket.as_fd();
    let kind = sockopt::socket_type(socket);
    let listens = sockopt::socket_acceptconn(socket) == Ok(true);
    let Ok(name) = rustix::net::getsockname(socket) else {
        return false;
    };
    match &spec.address {
        Address::Tcp(address) => {
            kind == Ok(SocketType::STREAM) && listens && same(socket, name, *address, spec.v6_only)
        }
        Address::Udp(address) => kind == Ok(SocketType::DGRAM) && same(socket, name, *address, spec.v6_only),
        Address::Unix(path) => {
            listens
                && SocketAddrUnix::try_from(name)
                    .is_ok_and(|name| name.path_bytes().is_some_and(|bytes| bytes == path.as_bytes()))
        }
        Address::Abstract(wanted) => {
            listens
                && SocketAddrUnix::try_from(name)
                    .is_ok_and(|name| name.abstract_name().is_some_and(|bytes| bytes == wanted.as_bytes()))
        }
    }
}

fn same(socket: impl AsFd, name: SocketAddrAny, wanted: SocketAddr, v6_only: bool) -> bool {
    let Ok(bound) = SocketAddr::try_from(name) else {
        return false;
    };
    let port = wanted.port() == 0 || bound.port() == wanted.port();
    let family = !wanted.is_ipv6() || sockopt::ipv6_v6only(socket) == Ok(v6_only);
    port && bound.ip() == wanted.ip() && family
}

/// The port a TCP or UDP socket has.
#[must_use]
pub fn port(socket: impl AsFd) -> Option<u16> {
    let name = rustix::net::getsockname(socket).ok()?;
    SocketAddr::try_from(name).ok().map(|address| address.port())
}

/// Connections that wait to be accepted on a listening TCP socket.
#[must_use]
pub fn queued(socket: impl AsFd) -> Option<u32> {
    /// `struct tcp_info` up to `tcpi_unacked`: eight bytes of states and options, then 32-bit numbers.
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        states: [u8; 8],
        before: [u32; 4],
        unacked: u32,
    }
    if sockopt::socket_acceptconn(&socket) != Ok(true) {
        return None;
    }
    let mut info = Info::default();
    let mut length = libc::socklen_t::try_from(size_of::<Info>()).ok()?;
    // SAFETY: the structure is writable and as long as `length` says; the kernel fills no more than that.
    let done = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    (done == 0 && length as usize == size_of::<Info>()).then_some(info.unacked)
}

#[cfg(test)]
mod tests {
    use super::{adjust, is, listen, port, queued};
    use crate::model::listen::ListenSpec;
    use std::io;
    use std::net::TcpStream;
    use std::os::unix::fs::PermissionsExt;

    fn spec(text: &str) -> ListenSpec {
        ListenSpec::new(text.parse().unwrap())
    }

    #[test]
    fn tcp_sockets_listen_and_know_their_queue() {
        let wanted = spec("127.0.0.1:0");
        let socket = listen(&wanted, 0).unwrap();
        let bound = port(&socket).unwrap();
        assert!(is(&socket, &wanted) && is(&socket, &spec(&format!("127.0.0.1:{bound}"))));
        assert!(!is(&socket, &spec("0.0.0.0:0")) && !is(&socket, &spec("udp:127.0.0.1:0")));
        assert_eq!(queued(&socket), Some(0));
        let _waits = TcpStream::connect(("127.0.0.1", bound)).unwrap();
        assert_eq!(queued(&socket), Some(1));
        let error = listen(&spec(&format!("0.0.0.0:{bound}")), 0).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        adjust(&socket, &wanted).unwrap();
        drop(socket);
        let again = listen(&wanted, bound).unwrap();
        assert_eq!(port(&again), Some(bound));
    }

    #[test]
    fn two_cannot_have_one_udp_port() {
        let socket = listen(&spec("udp:127.0.0.1:0"), 0).unwrap();
        let taken = spec(&format!("udp:127.0.0.1:{}", port(&socket).unwrap()));
        assert!(is(&socket, &taken) && queued(&socket).is_none());
        assert_eq!(listen(&taken, 0).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn ipv6_can_stand_beside_ipv4() {
        let Ok(v4) = listen(&spec("0.0.0.0:0"), 0) else { return };
        let mut v6 = spec("[::]:0");
        v6.v6_only = true;
        // Without IPv6 there is nothing to try.
        if let Ok(socket) = listen(&v6, port(&v4).unwrap()) {
            assert!(is(&socket, &v6) && !is(&socket, &spec("[::]:0")));
        }
    }

    #[test]
    fn unix_sockets_replace_only_what_nobody_uses() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let mut wanted = spec(&format!("unix:{}", path.display()));
        wanted.mode = Some(0o662);
        let socket = listen(&wanted, 0).unwrap();
        assert!(is(&socket, &wanted));
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o662);
        assert_eq!(listen(&wanted, 0).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(socket);
        assert!(path.exists());
        let socket = listen(&wanted, 0).unwrap();
        drop(std::os::unix::net::UnixStream::connect(&path).unwrap());
        drop(socket);
        crate::os::fsx::remove_file(&path).unwrap();
        drop(crate::os::fsx::open_append(&path, 0o600).unwrap());
        assert_eq!(listen(&wanted, 0).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn abstract_names_need_no_file() {
        let wanted = spec(&format!("unix:@clmgr-test-{}", std::process::id()));
        let socket = listen(&wanted, 0).unwrap();
        assert!(is(&socket, &wanted));
        assert_eq!(listen(&wanted, 0).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
