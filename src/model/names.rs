//! Names and numbers that identify things.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Longest name of an app or namespace, in bytes. Names become file names, so stay far below 255.
pub const MAX_NAME: usize = 64;

/// Why a text cannot be a name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NameError {
    /// Nothing.
    #[error("a name cannot be empty")]
    Empty,
    /// More than [`MAX_NAME`] bytes.
    #[error("the name {0:?} is longer than {MAX_NAME} characters")]
    TooLong(String),
    /// A character that would clash with targets or paths.
    #[error(
        "the name {name:?} contains {bad:?}; use letters, digits, '-', '_', '.', '@' or '+', beginning with a letter, digit or '_'"
    )]
    BadCharacter {
        /// The whole name.
        name: String,
        /// The first offending character.
        bad: char,
    },
    /// `all`, or only digits: those select other things on the command line.
    #[error("the name {0:?} is reserved; it would select something else on the command line")]
    Reserved(String),
}

fn check(text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > MAX_NAME {
        return Err(NameError::TooLong(text.to_owned()));
    }
    let bad = |(at, c): &(usize, char)| !(c.is_alphanumeric() || *c == '_' || (*at > 0 && "-.@+".contains(*c)));
    if let Some((_, bad)) = text.char_indices().find(bad) {
        return Err(NameError::BadCharacter {
            name: text.to_owned(),
            bad,
        });
    }
    if text == "all" || text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(NameError::Reserved(text.to_owned()));
    }
    Ok(())
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schemars(with = "String")]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                check(text).map(|()| Self(text.into()))
            }
        }
        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().to_owned()
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name_type! {
    /// The name of an app, unique among all apps of a home.
    AppName
}
name_type! {
    /// A group of apps that commands can address together.
    Namespace
}

impl Default for Namespace {
    fn default() -> Self {
        Self("default".into())
    }
}

/// The number of an app, given when it is first started and never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct AppId(pub u32);

impl fmt::Display for AppId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One run of one process: never used twice in the life of a state folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct RunId(pub u64);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of an instance within its app, counted from 0.
pub type Slot = u32;

#[cfg(test)]
mod tests {
    use super::{AppName, NameError};

    #[test]
    fn refuses_names_that_would_clash() {
        for good in ["api", "api-2", "_x", "wörker", "a.b@c+d", "9lives"] {
            assert!(good.parse::<AppName>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "all",
            "12",
            "a/b",
            "a:1",
            "-x",
            ".x",
            "a b",
            "a\nb",
            &"x".repeat(65),
        ] {
            assert!(bad.parse::<AppName>().is_err(), "{bad}");
        }
        assert_eq!(
            "a/b".parse::<AppName>(),
            Err(NameError::BadCharacter {
                name: "a/b".into(),
                bad: '/'
            })
        );
    }
}
