//! How a process ended.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The status the kernel gave, or that nobody can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExitStatus {
    /// `exit(code)`.
    Code(i32),
    /// Ended by a signal.
    Signal(i32),
    /// The process is gone and its parent died before it could be asked. Never invented.
    Unknown,
}

/// The end of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Exit {
    /// Code or signal.
    pub status: ExitStatus,
    /// The kernel wrote a core file.
    pub core: bool,
    /// CPU time in user mode, in milliseconds, the process alone with its waited-for children.
    pub user_ms: u64,
    /// CPU time in the kernel, in milliseconds.
    pub system_ms: u64,
    /// Largest resident set, in bytes.
    pub max_rss: u64,
}

impl Exit {
    /// An exit with this status and no accounting.
    #[must_use]
    pub const fn bare(status: ExitStatus) -> Self {
        Self {
            status,
            core: false,
            user_ms: 0,
            system_ms: 0,
            max_rss: 0,
        }
    }

    /// `exit(0)`.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.status == ExitStatus::Code(0)
    }
}

/// The usual name of a signal (`SIGTERM`), or `SIG<n>`.
#[must_use]
pub fn signal_name(number: i32) -> String {
    SIGNALS
        .iter()
        .find(|(_, n)| *n == number)
        .map_or_else(|| format!("SIG{number}"), |(name, _)| format!("SIG{name}"))
}

/// Reads `SIGTERM`, `term`, `TERM` or `15`.
#[must_use]
pub fn parse_signal(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    SIGNALS.iter().find(|(name, _)| *name == bare).map(|(_, n)| *n)
}

/// Linux signal numbers on every architecture this program is built for (x86-64, aarch64).
pub const SIGNALS: [(&str, i32); 30] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("SYS", 31),
];

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            ExitStatus::Code(code) => write!(f, "exit code {code}"),
            ExitStatus::Signal(signal) if self.core => write!(f, "killed by {} (core dumped)", signal_name(signal)),
            ExitStatus::Signal(signal) => write!(f, "killed by {}", signal_name(signal)),
            ExitStatus::Unknown => f.write_str("exit code unknown"),
        }
    }
}
