//! How grave a log line is.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// From least to gravest; compares in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Every step.
    Trace,
    /// For those who look for a mistake.
    Debug,
    /// The usual.
    Info,
    /// Something to look at.
    Warn,
    /// Something failed.
    Error,
    /// The program cannot go on.
    Fatal,
}

impl Level {
    /// All, from least to gravest.
    pub const ALL: [Self; 6] = [
        Self::Trace,
        Self::Debug,
        Self::Info,
        Self::Warn,
        Self::Error,
        Self::Fatal,
    ];

    /// `trace`, `debug`, `info`, `warn`, `error` or `fatal`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Fatal => "fatal",
        }
    }

    /// The level of this name, in any case, by the words that log libraries use: `warning`, `err`, `critical`,
    /// `notice`, `panic`, `verbose`… None if it is no such word.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        const WORDS: [(&str, Level); 24] = [
            ("trace", Level::Trace),
            ("trc", Level::Trace),
            ("silly", Level::Trace),
            ("finest", Level::Trace),
            ("debug", Level::Debug),
            ("dbg", Level::Debug),
            ("verbose", Level::Debug),
            ("fine", Level::Debug),
            ("info", Level::Info),
            ("inf", Level::Info),
            ("information", Level::Info),
            ("notice", Level::Info),
            ("warn", Level::Warn),
            ("warning", Level::Warn),
            ("wrn", Level::Warn),
            ("error", Level::Error),
            ("err", Level::Error),
            ("severe", Level::Error),
            ("fatal", Level::Fatal),
            ("critical", Level::Fatal),
            ("crit", Level::Fatal),
            ("panic", Level::Fatal),
            ("alert", Level::Fatal),
            ("emerg", Level::Fatal),
        ];
        let found = WORDS.iter().find(|(known, _)| word.eq_ignore_ascii_case(known));
        found.map(|(_, level)| *level)
    }

    /// The level of a number as bunyan and pino write it: 10 is trace, 20 debug, … 60 fatal; one between two is the
    /// lower of them. None below 1.
    #[must_use]
    pub const fn of_number(number: u64) -> Option<Self> {
        match number {
            0 => None,
            1..=19 => Some(Self::Trace),
            20..=29 => Some(Self::Debug),
            30..=39 => Some(Self::Info),
            40..=49 => Some(Self::Warn),
            50..=59 => Some(Self::Error),
            60.. => Some(Self::Fatal),
        }
    }

    /// The severity of syslog and journald (RFC 5424): 7 is debug, 6 informational, 4 warning, 3 error, 2 critical.
    #[must_use]
    pub const fn severity(self) -> u8 {
        match self {
            Self::Trace | Self::Debug => 7,
            Self::Info => 6,
            Self::Warn => 4,
            Self::Error => 3,
            Self::Fatal => 2,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::Level;

    #[test]
    fn words_and_numbers_of_the_libraries() {
        for level in Level::ALL {
            assert_eq!(Level::of_word(&level.as_str().to_uppercase()), Some(level));
        }
        assert_eq!(Level::of_word("Warning"), Some(Level::Warn));
        assert_eq!(Level::of_word("warned"), None);
        let pino: Vec<_> = (1..=6).map(|n| Level::of_number(n * 10)).collect();
        assert_eq!(pino, Level::ALL.map(Some));
        assert_eq!((Level::of_number(0), Level::of_number(35)), (None, Some(Level::Info)));
        assert!(Level::Error > Level::Warn && Level::Fatal.severity() < Level::Debug.severity());
    }
}
