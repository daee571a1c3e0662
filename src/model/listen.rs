//! Sockets that the manager owns and hands to an app.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::ostext::OsText;

/// Connections that may wait when nothing else is said; the kernel lowers it to `net.core.somaxconn`.
pub const BACKLOG: u32 = 511;
/// Longest path of a Unix socket, in bytes.
pub const MAX_PATH: usize = 107;
/// Most sockets of one app.
pub const MAX_LISTENERS: usize = 64;
/// The number of the first one in the app, as `LISTEN_FDS` has it.
pub const FIRST_FD: i32 = 3;

/// Where a socket is bound.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Address {
    /// TCP. Port 0: the kernel chooses.
    Tcp(SocketAddr),
    /// UDP. Port 0: the kernel chooses.
    Udp(SocketAddr),
    /// An absolute path.
    Unix(OsText),
    /// A name in Linux's own namespace of Unix sockets, without a file.
    Abstract(String),
}

impl Address {
    /// The address on the network, if it is one.
    #[must_use]
    pub const fn inet(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) | Self::Udp(address) => Some(*address),
            Self::Unix(_) | Self::Abstract(_) => None,
        }
    }

    /// The name a socket has in `LISTEN_FDNAMES` that was given none: its port, or its file's name.
    #[must_use]
    pub fn default_name(&self) -> String {
        let fitting = |text: &str| text.chars().filter(|c| !c.is_control() && *c != ':').collect();
        match self {
            Self::Tcp(address) if address.port() == 0 => "tcp".to_owned(),
            Self::Udp(address) if address.port() == 0 => "udp".to_owned(),
            Self::Tcp(address) | Self::Udp(address) => address.port().to_string(),
            Self::Unix(path) => path
                .as_path()
                .file_name()
                .map_or_else(|| "unix".to_owned(), |name| fitting(&name.to_string_lossy())),
            Self::Abstract(name) => fitting(name),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Udp(address) => write!(f, "udp:{address}"),
            Self::Unix(path) => write!(f, "unix:{path}"),
            Self::Abstract(name) => write!(f, "unix:@{name}"),
        }
    }
}

/// Why a text is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Nothing is there.
    #[error("it is empty")]
    Empty,
    /// Only a number.
    #[error("`{0}` is only a port; the address is missing")]
    OnlyPort(String),
    /// No port.
    #[error("`{0}` has no port")]
    NoPort(String),
    /// A port that is no number.
    #[error("the port `{0}` is not a number")]
    BadPort(String),
    /// A port that does not exist.
    #[error("the port {0} is out of range: 0 to 65535")]
    PortRange(String),
    /// An IPv6 address without brackets.
    #[error("an IPv6 address stands in brackets")]
    Brackets(String),
    /// A name, or nonsense.
    #[error("`{0}` is not an IP address")]
    NotAnAddress(String),
    /// A path that the kernel does not take.
    #[error("the path is {0} bytes long; {MAX_PATH} are possible")]
    PathLength(usize),
    /// `unix:` alone.
    #[error("the path is missing after `unix:`")]
    NoPath,
}

impl FromStr for Address {
    type Err = AddressError;

    /// `0.0.0.0:3000`, `[::]:3000`, `udp:0.0.0.0:53`, `unix:/path`, `unix:@name`. A relative path is kept as it is.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.is_empty() {
            return Err(AddressError::Empty);
        }
        if let Some(path) = text.strip_prefix("unix:") {
            return match path.strip_prefix('@') {
                Some("") => Err(AddressError::NoPath),
                Some(name) if name.len() > MAX_PATH => Err(AddressError::PathLength(name.len())),
                Some(name) => Ok(Self::Abstract(name.to_owned())),
                None if path.is_empty() => Err(AddressError::NoPath),
                None => Ok(Self::Unix(path.into())),
            };
        }
        match text.strip_prefix("udp:") {
            Some(rest) => inet(rest).map(Self::Udp),
            None => inet(text.strip_prefix("tcp:").unwrap_or(text)).map(Self::Tcp),
        }
    }
}

fn inet(text: &str) -> Result<SocketAddr, AddressError> {
    if text.is_empty() {
        return Err(AddressError::Empty);
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(AddressError::OnlyPort(text.to_owned()));
    }
    if let Some(port) = text.strip_prefix(':').filter(|port| port.parse::<u16>().is_ok()) {
        return Err(AddressError::OnlyPort(port.to_owned()));
    }
    if text.parse::<IpAddr>().is_ok() {
        return Err(AddressError::NoPort(text.to_owned()));
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(AddressError::NoPort(text.to_owned()));
    };
    if port.is_empty() || host.starts_with('[') && !host.ends_with(']') {
        return Err(AddressError::NoPort(text.to_owned()));
    }
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(AddressError::BadPort(port.to_owned()));
    }
    let Ok(port) = port.parse::<u16>() else {
        return Err(AddressError::PortRange(port.to_owned()));
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let address: Result<IpAddr, _> = match bare {
        Some(host) => host.parse::<std::net::Ipv6Addr>().map(IpAddr::V6),
        None => host.parse(),
    };
    match address {
        Ok(IpAddr::V6(_)) if bare.is_none() => Err(AddressError::Brackets(format!("[{host}]:{port}"))),
        Ok(address) => Ok(SocketAddr::new(address, port)),
        Err(_) => Err(AddressError::NotAnAddress(host.to_owned())),
    }
}

/// One socket of an app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListenSpec {
    /// Where.
    pub address: Address,
    /// Its name in `LISTEN_FDNAMES`.
    pub name: String,
    /// Connections that may wait; the kernel lowers it to `net.core.somaxconn`. Not used for UDP.
    pub backlog: u32,
    /// IPv6 only. Set for `[::]` where the same app has an IPv4 address with the same port.
    #[serde(default)]
    pub v6_only: bool,
    /// Permissions of the file of a Unix socket; those that the umask leaves if there are none.
    #[serde(default)]
    pub mode: Option<u32>,
    /// Who owns the file of a Unix socket: a user's name or number.
    #[serde(default)]
    pub owner: Option<String>,
    /// Its group: a name or number.
    #[serde(default)]
    pub group: Option<String>,
    /// It is the app's descriptor 0 instead of one from [`FIRST_FD`] on, as inetd's `wait` does it. At most one.
    #[serde(default)]
    pub stdin: bool,
}

impl ListenSpec {
    /// With the name and backlog that nothing else was said about.
    #[must_use]
    pub fn new(address: Address) -> Self {
        let v6_only = address
            .inet()
            .is_some_and(|address| address.is_ipv6() && !address.ip().is_unspecified());
        Self {
            name: address.default_name(),
            address,
            backlog: BACKLOG,
            v6_only,
            mode: None,
            owner: None,
            group: None,
            stdin: false,
        }
    }

    /// Tells sockets of one app apart: what cannot be changed of a bound one.
    #[must_use]
    pub fn key(&self) -> String {
        let only = match self.address.inet() {
            Some(address) if self.v6_only && address.ip().is_unspecified() => ",v6only",
            Some(_) | None => "",
        };
        format!("{}{only}", self.address)
    }

    /// Both cannot be bound at once.
    #[must_use]
    pub fn collides(&self, other: &Self) -> bool {
        match (&self.address, &other.address) {
            (Address::Tcp(one), Address::Tcp(two)) | (Address::Udp(one), Address::Udp(two)) => {
                one.port() == two.port() && one.port() != 0 && self.covers(other, *one, *two)
            }
            (one, two) => one == two,
        }
    }

    fn covers(&self, other: &Self, one: SocketAddr, two: SocketAddr) -> bool {
        let any = one.ip().is_unspecified() || two.ip().is_unspecified();
        match (one.is_ipv6(), two.is_ipv6()) {
            (false, false) | (true, true) => any || one.ip() == two.ip(),
            (true, false) => one.ip().is_unspecified() && !self.v6_only,
            (false, true) => two.ip().is_unspecified() && !other.v6_only,
        }
    }
}

/// The descriptor of each in the app, in order.
#[must_use]
pub fn numbers(list: &[ListenSpec]) -> Vec<i32> {
    let mut next = FIRST_FD;
    let number = |entry: &ListenSpec| {
        if entry.stdin {
            return 0;
        }
        next += 1;
        next - 1
    };
    list.iter().map(number).collect()
}

/// Those that `LISTEN_FDS` counts.
pub fn counted(list: &[ListenSpec]) -> impl Iterator<Item = &ListenSpec> {
    list.iter().filter(|entry| !entry.stdin)
}

/// The number after those of the app's sockets.
#[must_use]
pub fn next_number(list: &[ListenSpec]) -> i32 {
    FIRST_FD + i32::try_from(counted(list).count()).unwrap_or(0)
}

/// Decides which `[::]` of one app are for IPv6 only.
pub fn separate_families(list: &mut [ListenSpec]) {
    let v4: Vec<(bool, u16)> = list
        .iter()
        .filter_map(|entry| match entry.address {
            Address::Tcp(address) if address.is_ipv4() => Some((true, address.port())),
            Address::Udp(address) if address.is_ipv4() => Some((false, address.port())),
            Address::Tcp(_) | Address::Udp(_) | Address::Unix(_) | Address::Abstract(_) => None,
        })
        .collect();
    for entry in list {
        let tcp = matches!(entry.address, Address::Tcp(_));
        if let Some(address) = entry.address.inet().filter(SocketAddr::is_ipv6) {
            entry.v6_only = !address.ip().is_unspecified() || v4.contains(&(tcp, address.port()));
        }
    }
}

/// The one TCP socket of an app that has exactly one: its port is the variable `PORT`.
#[must_use]
pub fn only_tcp(list: &[ListenSpec]) -> Option<&ListenSpec> {
    let mut tcp = list.iter().filter(|entry| matches!(entry.address, Address::Tcp(_)));
    match (tcp.next(), tcp.next()) {
        (only, None) => only,
        (_, Some(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Address, AddressError, ListenSpec, only_tcp, separate_families};

    fn spec(text: &str) -> ListenSpec {
        ListenSpec::new(text.parse().unwrap())
    }

    #[test]
    fn addresses_are_read_and_written() {
        for text in [
            "0.0.0.0:3000",
            "[::]:3000",
            "udp:127.0.0.1:53",
            "udp:[::1]:0",
            "unix:/run/a b.sock",
            "unix:@name",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        assert_eq!("tcp:1.2.3.4:5".parse::<Address>(), "1.2.3.4:5".parse());
        use AddressError::{BadPort, Brackets, Empty, NoPath, NoPort, NotAnAddress, OnlyPort, PathLength, PortRange};
        for (text, error) in [
            ("", Empty),
            ("udp:", Empty),
            ("3000", OnlyPort("3000".into())),
            (":3000", OnlyPort("3000".into())),
            ("127.0.0.1", NoPort("127.0.0.1".into())),
            ("::1", NoPort("::1".into())),
            ("[::1]", NoPort("[::1]".into())),
            ("localhost", NoPort("localhost".into())),
            ("1.2.3.4:http", BadPort("http".into())),
            ("1.2.3.4:65536", PortRange("65536".into())),
            ("1.2.3.4:99999999999", PortRange("99999999999".into())),
            ("::1:80", NoPort("::1:80".into())),
            ("1:2:3:4:5:6:7:8:80", Brackets("[1:2:3:4:5:6:7:8]:80".into())),
            ("localhost:80", NotAnAddress("localhost".into())),
            ("[1.2.3.4]:80", NotAnAddress("[1.2.3.4]".into())),
            ("unix:", NoPath),
            ("unix:@", NoPath),
        ] {
            assert_eq!(text.parse::<Address>(), Err(error), "{text}");
        }
        let long = format!("unix:@{}", "x".repeat(108));
        assert_eq!(long.parse::<Address>(), Err(PathLength(108)));
    }

    #[test]
    fn names_come_from_ports_and_files() {
        for (text, name) in [
            ("0.0.0.0:80", "80"),
            ("udp:0.0.0.0:0", "udp"),
            ("unix:/run/api.sock", "api.sock"),
            ("unix:@a:b", "ab"),
        ] {
            assert_eq!(spec(text).name, name);
        }
    }

    #[test]
    fn an_ipv6_wildcard_is_for_both_families_unless_ipv4_has_its_own() {
        let mut list = vec![
            spec("[::]:80"),
            spec("0.0.0.0:81"),
            spec("udp:0.0.0.0:80"),
            spec("[::1]:9"),
        ];
        separate_families(&mut list);
        assert_eq!(
            list.iter().map(|one| one.v6_only).collect::<Vec<_>>(),
            [false, false, false, true]
        );
        assert_eq!(list[0].key(), "[::]:80");
        list.push(spec("127.0.0.1:80"));
        separate_families(&mut list);
        assert!(list[0].v6_only);
        assert_eq!(list[0].key(), "[::]:80,v6only");
        assert!(!list[0].collides(&list[4]));
    }

    #[test]
    fn collisions() {
        for (one, two, both) in [
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("[::]:80", "0.0.0.0:80", true),
            ("[::1]:80", "0.0.0.0:80", false),
            ("[::]:80", "[::1]:80", true),
            ("0.0.0.0:80", "udp:0.0.0.0:80", false),
            ("0.0.0.0:0", "0.0.0.0:0", false),
            ("unix:/a", "unix:/a", true),
            ("unix:/a", "unix:@/a", false),
        ] {
            assert_eq!(spec(one).collides(&spec(two)), both, "{one} {two}");
            assert_eq!(spec(two).collides(&spec(one)), both, "{two} {one}");
        }
    }

    #[test]
    fn one_tcp_socket_decides_the_port() {
        assert_eq!(
            only_tcp(&[spec("unix:/a"), spec("1.1.1.1:8")]),
            Some(&spec("1.1.1.1:8"))
        );
        assert_eq!(only_tcp(&[spec("1.1.1.1:8"), spec("1.1.1.1:9")]), None);
        assert_eq!(only_tcp(&[spec("udp:1.1.1.1:8")]), None);
    }
}
