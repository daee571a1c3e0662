//! What a worker asks for when its program calls `listen` or `bind`, and which sockets answer it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use serde_json::Value;

use crate::model::listen::{Address, BACKLOG, ListenSpec, MAX_PATH};

/// libuv's flag for IPv6 alone, of TCP and UDP.
const IPV6_ONLY: u64 = 1;
/// libuv's flag for a UDP port that several sockets of one worker may have.
const UDP_REUSE: u64 = 4;

/// The family of what is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Tcp4,
    Tcp6,
    Unix,
    Udp4,
    Udp6,
    Unknown,
}

/// A question for a socket.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// None: all addresses of both families.
    address: Option<String>,
    port: Option<u16>,
    family: Family,
    /// A descriptor of the worker's own, which we do not have.
    fd: i64,
    flags: u64,
    backlog: u32,
    /// How many servers of the same address the worker has asked for before.
    pub index: u64,
    /// Goes back unchanged.
    pub data: Value,
    readable_all: bool,
    writable_all: bool,
}

/// Why there is no socket to be looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// A descriptor: a worker's own numbers mean nothing here.
    #[error("a worker cannot ask for a descriptor by its number")]
    Descriptor,
    /// No address, port or path.
    #[error("the address cannot be read")]
    Invalid,
}

impl Query {
    /// Takes the fields of a `queryServer` message. What is missing or strange is found out by [`Query::wanted`].
    #[must_use]
    pub fn read(message: &Value) -> Self {
        let number = |key: &str| message.get(key).and_then(Value::as_i64);
        let flag = |key: &str| message.get(key).and_then(Value::as_bool).unwrap_or(false);
        let text = |key: &str| message.get(key).and_then(Value::as_str);
        let family = match (text("addressType"), number("addressType")) {
            (Some("udp4"), _) => Family::Udp4,
            (Some("udp6"), _) => Family::Udp6,
            (_, Some(6)) => Family::Tcp6,
            (_, Some(-1)) => Family::Unix,
            (_, Some(4)) => Family::Tcp4,
            (_, _) => Family::Unknown,
        };
        Self {
            address: text("address").filter(|text| !text.is_empty()).map(str::to_owned),
            port: number("port").and_then(|port| u16::try_from(port).ok()),
            family,
            fd: number("fd").unwrap_or(-1),
            flags: message.get("flags").and_then(Value::as_u64).unwrap_or(0),
            backlog: number("backlog")
                .and_then(|backlog| u32::try_from(backlog).ok())
                .filter(|backlog| *backlog > 0)
                .unwrap_or(BACKLOG),
            index: message.get("index").and_then(Value::as_u64).unwrap_or(0),
            data: message.get("data").cloned().unwrap_or(Value::Null),
            readable_all: flag("readableAll"),
            writable_all: flag("writableAll"),
        }
    }

    /// UDP.
    #[must_use]
    pub const fn is_datagram(&self) -> bool {
        matches!(self.family, Family::Udp4 | Family::Udp6)
    }

    /// The port is the kernel's choice.
    #[must_use]
    pub const fn any_port(&self) -> bool {
        matches!(self.port, Some(0)) && !matches!(self.family, Family::Unix)
    }

    /// One worker may have it several times.
    #[must_use]
    pub const fn may_repeat(&self) -> bool {
        self.any_port() || self.is_datagram() && self.flags & UDP_REUSE != 0
    }

    /// The sockets that would do, the best first: it has the first of them that can be bound. A relative path begins
    /// in `cwd`.
    ///
    /// # Errors
    /// There is no such socket at all.
    pub fn wanted(&self, cwd: &Path) -> Result<Vec<ListenSpec>, QueryError> {
        if self.fd >= 0 {
            return Err(QueryError::Descriptor);
        }
        let list = match self.family {
            Family::Unix => vec![self.unix(cwd)?],
            Family::Tcp4 | Family::Tcp6 | Family::Udp4 | Family::Udp6 => self.inet()?,
            Family::Unknown => return Err(QueryError::Invalid),
        };
        Ok(list
            .into_iter()
            .map(|address| {
                let mut spec = ListenSpec::new(address);
                spec.backlog = self.backlog;
                spec.v6_only |= spec.address.inet().is_some_and(|inet| inet.is_ipv6()) && self.flags & IPV6_ONLY != 0;
                spec.mode = self.mode();
                spec
            })
            .collect())
    }

    fn inet(&self) -> Result<Vec<Address>, QueryError> {
        let port = self.port.ok_or(QueryError::Invalid)?;
        let udp = self.is_datagram();
        let place = |ip: IpAddr| {
            let address = SocketAddr::new(ip, port);
            if udp {
                Address::Udp(address)
            } else {
                Address::Tcp(address)
            }
        };
        let Some(text) = &self.address else {
            let (v6, v4) = (place(Ipv6Addr::UNSPECIFIED.into()), place(Ipv4Addr::UNSPECIFIED.into()));
            return Ok(if self.family == Family::Udp4 {
                vec![v4]
            } else {
                vec![v6, v4]
            });
        };
        // A scope (`fe80::1%eth0`) is not known here.
        let ip: IpAddr = text.parse().map_err(|_| QueryError::Invalid)?;
        Ok(vec![place(ip)])
    }

    fn unix(&self, cwd: &Path) -> Result<Address, QueryError> {
        let text = self.address.as_deref().ok_or(QueryError::Invalid)?;
        if let Some(name) = text.strip_prefix('\0') {
            let fits = !name.is_empty() && name.len() <= MAX_PATH;
            return fits
                .then(|| Address::Abstract(name.to_owned()))
                .ok_or(QueryError::Invalid);
        }
        let path = cwd.join(text);
        let bytes = path.as_os_str().len();
        if bytes > MAX_PATH || text.contains('\0') {
            return Err(QueryError::Invalid);
        }
        Ok(Address::Unix(path.into()))
    }

    /// `readableAll` and `writableAll` of Unix sockets.
    fn mode(&self) -> Option<u32> {
        if self.family != Family::Unix || !(self.readable_all || self.writable_all) {
            return None;
        }
        let readable = if self.readable_all { 0o444 } else { 0 };
        let writable = if self.writable_all { 0o222 } else { 0 };
        Some(0o700 | readable | writable)
    }
}

/// The one of an app's own sockets that a worker means: the same, or, where it asks for all addresses, any of that
/// port for all addresses.
#[must_use]
pub fn own<'a>(wanted: &[ListenSpec], listen: &'a [ListenSpec]) -> Option<&'a ListenSpec> {
    let same = |spec: &ListenSpec| listen.iter().find(|entry| entry.address == spec.address);
    let wide = |spec: &ListenSpec| {
        let inet = spec
            .address
            .inet()
            .filter(|inet| inet.ip().is_unspecified() && inet.port() != 0)?;
        listen.iter().find(|entry| {
            let other = entry.address.inet();
            matches!(entry.address, Address::Tcp(_)) == matches!(spec.address, Address::Tcp(_))
                && other.is_some_and(|other| other.ip().is_unspecified() && other.port() == inet.port())
        })
    };
    wanted.iter().find_map(same).or_else(|| wanted.iter().find_map(wide))
}

#[cfg(test)]
mod tests {
    use super::{Query, QueryError, own};
    use crate::model::listen::{BACKLOG, ListenSpec};
    use serde_json::{Value, json};
    use std::path::Path;

    fn addresses(message: &Value) -> Result<Vec<String>, QueryError> {
        let wanted = Query::read(message).wanted(Path::new("/srv/app"))?;
        Ok(wanted.iter().map(ListenSpec::key).collect())
    }

    #[test]
    fn questions_become_sockets() {
        for (message, expected) in [
            (
                json!({"address": null, "port": 3000, "addressType": 4, "fd": -1}),
                &["[::]:3000", "0.0.0.0:3000"][..],
            ),
            (
                json!({"address": "127.0.0.1", "port": 0, "addressType": 4}),
                &["127.0.0.1:0"],
            ),
            (
                json!({"address": "::", "port": 80, "addressType": 6, "flags": 1}),
                &["[::]:80,v6only"],
            ),
            (json!({"address": "::1", "port": 80, "addressType": 6}), &["[::1]:80"]),
            (
                json!({"address": "0.0.0.0", "port": 53, "addressType": "udp4"}),
                &["udp:0.0.0.0:53"],
            ),
            (
                json!({"address": null, "port": 53, "addressType": "udp4"}),
                &["udp:0.0.0.0:53"],
            ),
            (
                json!({"address": "::", "port": 53, "addressType": "udp6"}),
                &["udp:[::]:53"],
            ),
            (
                json!({"address": "/run/a.sock", "port": -1, "addressType": -1}),
                &["unix:/run/a.sock"],
            ),
            (
                json!({"address": "a.sock", "port": -1, "addressType": -1}),
                &["unix:/srv/app/a.sock"],
            ),
            (
                json!({"address": "\0name", "port": -1, "addressType": -1}),
                &["unix:@name"],
            ),
        ] {
            assert_eq!(addresses(&message).unwrap(), expected, "{message}");
        }
    }

    #[test]
    fn what_cannot_be_had_is_refused() {
        assert_eq!(
            addresses(&json!({"fd": 3, "port": 1, "addressType": 4})),
            Err(QueryError::Descriptor)
        );
        for message in [
            json!({}),
            json!({"port": 70000, "addressType": 4}),
            json!({"port": 80, "address": "nonsense", "addressType": 4}),
            json!({"port": 80, "addressType": 5}),
            json!({"address": "", "port": -1, "addressType": -1}),
            json!({"address": "x".repeat(200), "port": -1, "addressType": -1}),
            json!({"address": "a\0b", "port": -1, "addressType": -1}),
        ] {
            assert_eq!(addresses(&message), Err(QueryError::Invalid), "{message}");
        }
    }

    #[test]
    fn backlog_and_mode_are_taken_over() {
        let spec = |message: Value| Query::read(&message).wanted(Path::new("/")).unwrap().remove(0);
        assert_eq!(spec(json!({"port": 1, "addressType": 4, "backlog": 7})).backlog, 7);
        for nothing in [json!(0), json!(-1), json!(null)] {
            assert_eq!(
                spec(json!({"port": 1, "addressType": 4, "backlog": nothing})).backlog,
                BACKLOG
            );
        }
        let unix = |read: bool, write: bool| {
            spec(json!({"address": "/a", "addressType": -1, "readableAll": read, "writableAll": write})).mode
        };
        assert_eq!(
            (unix(false, false), unix(true, false), unix(true, true)),
            (None, Some(0o744), Some(0o766))
        );
        assert!(Query::read(&json!({"port": 0, "addressType": 4})).may_repeat());
        assert!(!Query::read(&json!({"port": 1, "addressType": "udp4"})).may_repeat());
        assert!(Query::read(&json!({"port": 1, "addressType": "udp4", "flags": 4})).may_repeat());
    }

    #[test]
    fn an_apps_own_socket_is_found() {
        let listen: Vec<ListenSpec> = ["0.0.0.0:3000", "127.0.0.1:3001", "unix:/a"]
            .iter()
            .map(|text| ListenSpec::new(text.parse().unwrap()))
            .collect();
        let found = |message: Value| {
            let wanted = Query::read(&message).wanted(Path::new("/")).unwrap();
            own(&wanted, &listen).map(|spec| spec.address.to_string())
        };
        assert_eq!(
            found(json!({"port": 3000, "addressType": 4})).as_deref(),
            Some("0.0.0.0:3000")
        );
        assert_eq!(found(json!({"port": 3000, "addressType": "udp4"})), None);
        assert_eq!(found(json!({"port": 3001, "addressType": 4})), None);
        assert_eq!(
            found(json!({"address": "127.0.0.1", "port": 3001, "addressType": 4})).as_deref(),
            Some("127.0.0.1:3001")
        );
        assert_eq!(
            found(json!({"address": "/a", "addressType": -1})).as_deref(),
            Some("unix:/a")
        );
    }
}
