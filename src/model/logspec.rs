//! How an app's output is kept.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::duration::Millis;
use crate::model::ostext::OsText;
use crate::model::size::Bytes;

/// Standard output or standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

impl Stream {
    /// `out` or `err`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Out => "out",
            Self::Err => "err",
        }
    }
}

/// What a line looks like in the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// The app's bytes, untouched.
    #[default]
    Raw,
    /// A timestamp in this format, a space, the line. strftime-like (`%Y-%m-%d`), or PM2's tokens
    /// (`YYYY-MM-DD HH:mm:ss.SSS Z`).
    Stamped(String),
    /// One JSON object a line: time, app, namespace, instance, pid, stream, level (if the line is itself a JSON object
    /// with one), message.
    Json,
}

/// When a file is rotated and how much is kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Rotation {
    /// Rotate when the file would grow past this. `None`: never by size.
    pub size: Option<Bytes>,
    /// Rotate at multiples of this, counted from local midnight where it divides a day.
    pub every: Option<Millis>,
    /// Rotated files kept of each log.
    pub keep: u32,
    /// Bytes of an app's logs together, of all instances; the oldest rotated files go first. Current files count and
    /// stay.
    pub total: Option<Bytes>,
    /// gzip the rotated files.
    pub compress: bool,
    /// Rotated files older than this are removed. `None`: age does not matter.
    #[serde(default)]
    pub max_age: Option<Millis>,
    /// What shall stay free on the file system.
    #[serde(default)]
    pub min_free: MinFree,
}

/// The free space under which the oldest rotated files go first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MinFree {
    /// 1 GiB, or a twentieth of a file system that is smaller than 20 GiB.
    #[default]
    Auto,
    /// This much.
    Bytes(Bytes),
    /// This share of the file system, in percent.
    Percent(u8),
    /// Nothing is removed for want of space.
    Off,
}

impl MinFree {
    /// What shall stay free on a file system of `size` bytes, in bytes.
    #[must_use]
    pub fn floor(self, size: u64) -> u64 {
        match self {
            Self::Auto => (1 << 30).min(size / 20),
            Self::Bytes(bytes) => bytes.0,
            Self::Percent(share) => size / 100 * u64::from(share),
            Self::Off => 0,
        }
    }
}

impl Default for Rotation {
    /// 10 MiB a file, 10 rotated files, 1 GiB at most, gzip: nobody fills a disk because they forgot.
    fn default() -> Self {
        Self {
            size: Some(Bytes(10 << 20)),
            every: None,
            keep: 10,
            total: Some(Bytes(1 << 30)),
            compress: true,
            max_age: None,
            min_free: MinFree::Auto,
        }
    }
}

/// Where output goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogTarget {
    /// The files.
    Files,
    /// journald's native socket.
    Journald,
    /// The local syslog socket, RFC 5424.
    Syslog,
    /// The manager's own standard output and standard error.
    Stdout,
}

impl LogTarget {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Files, Self::Journald, Self::Syslog, Self::Stdout];

    /// `files`, `journald`, `syslog` or `stdout`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Journald => "journald",
            Self::Syslog => "syslog",
            Self::Stdout => "stdout",
        }
    }
}

/// Syslog's word for the kind of program, as its number (RFC 5424, 6.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Facility(pub u8);

impl Default for Facility {
    fn default() -> Self {
        Self(3)
    }
}

impl Facility {
    /// The one of this name: `user`, `daemon`, `local0` to `local7`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "user" => Some(Self(1)),
            "daemon" => Some(Self(3)),
            _ => match name.strip_prefix("local")?.as_bytes() {
                [digit @ b'0'..=b'7'] => Some(Self(16 + digit - b'0')),
                _ => None,
            },
        }
    }
}

/// What happens when the disk cannot take a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Overflow {
    /// A slow disk slows the app down (its pipe fills). On a full disk lines wait for up to 10 s, and the app with
    /// them; then they are lost and counted.
    #[default]
    Block,
    /// The app is never slowed down; lines are lost and counted.
    Drop,
}

/// Everything about an app's logs. Paths are absolute; `None` means the default name in the logs
/// folder: `<app>-<slot>-out.log` and `<app>-<slot>-err.log`, without the slot when merged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct LogSpec {
    /// Where standard output goes.
    pub out_file: Option<OsText>,
    /// Where standard error goes.
    pub error_file: Option<OsText>,
    /// A file that gets both streams, in the order they came, besides the two above.
    pub log_file: Option<OsText>,
    /// All instances of the app write to the same files; otherwise each has its own (`-<slot>` is put
    /// before the extension of a given file name when the app has more than one instance).
    pub merge: bool,
    /// What a line looks like.
    pub format: LogFormat,
    /// Rotation.
    pub rotate: Rotation,
    /// Full disk and slow disk.
    pub overflow: Overflow,
    /// Nothing is kept; output is read and thrown away, so that the app never blocks.
    pub disabled: bool,
    /// The time zone of stamps and JSON times, an IANA name as `Europe/Berlin` or `UTC`; `None`: the system's.
    #[serde(default)]
    pub zone: Option<String>,
    /// Where output goes; empty: into the files.
    #[serde(default)]
    pub targets: Vec<LogTarget>,
    /// What lines that go to syslog are said to be of.
    #[serde(default)]
    pub facility: Facility,
}

impl LogSpec {
    /// Whether output goes there.
    #[must_use]
    pub fn goes_to(&self, target: LogTarget) -> bool {
        if self.disabled {
            return false;
        }
        self.targets.contains(&target) || (self.targets.is_empty() && target == LogTarget::Files)
    }
}
