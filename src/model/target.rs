//! What a command is aimed at.

use std::fmt;
use std::str::FromStr;

use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::names::{AppId, AppName, Namespace, Slot};

/// `all`, `/regex/`, `name:slot`, an id, or a name (of an app, or else of a namespace).
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum Target {
    /// Every app.
    All,
    /// Apps whose name matches.
    Matching(Regex),
    /// One instance.
    Instance(AppName, Slot),
    /// One app by number.
    Id(AppId),
    /// One app by name, or all apps of a namespace.
    Named(String),
}

/// Why a text is no target.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// Between the slashes stands no regular expression.
    #[error("{text:?} is not a valid regular expression: {source}")]
    Regex {
        /// What was given.
        text: String,
        /// What the regex engine says.
        source: Box<regex::Error>,
    },
    /// None of the forms.
    #[error("{0:?} is not a target; use a name, name:slot, an id, a namespace, /regex/ or all")]
    Malformed(String),
}

impl Target {
    /// True if the app is meant, wholly or with one instance.
    #[must_use]
    pub fn matches(&self, id: AppId, name: &AppName, namespace: &Namespace) -> bool {
        match self {
            Self::All => true,
            Self::Matching(regex) => regex.is_match(name.as_str()),
            Self::Instance(wanted, _) => wanted == name,
            Self::Id(wanted) => *wanted == id,
            Self::Named(text) => text == name.as_str() || text == namespace.as_str(),
        }
    }

    /// The one instance that is meant, if it is only one.
    #[must_use]
    pub const fn slot(&self) -> Option<Slot> {
        match self {
            Self::Instance(_, slot) => Some(*slot),
            Self::All | Self::Matching(_) | Self::Id(_) | Self::Named(_) => None,
        }
    }
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let malformed = || TargetError::Malformed(text.to_owned());
        if text == "all" {
            return Ok(Self::All);
        }
        if let Some(pattern) = text
            .strip_prefix('/')
            .and_then(|rest| rest.strip_suffix('/'))
            .filter(|p| !p.is_empty())
        {
            return Regex::new(pattern)
                .map(Self::Matching)
                .map_err(|source| TargetError::Regex {
                    text: text.to_owned(),
                    source: Box::new(source),
                });
        }
        if text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty() {
            return text.parse().map(|id| Self::Id(AppId(id))).map_err(|_| malformed());
        }
        if let Some((name, slot)) = text.rsplit_once(':') {
            let name = name.parse().map_err(|_| malformed())?;
            return slot
                .parse()
                .map(|slot| Self::Instance(name, slot))
                .map_err(|_| malformed());
        }
        text.parse::<AppName>()
            .map(|_| Self::Named(text.to_owned()))
            .map_err(|_| malformed())
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Matching(regex) => write!(f, "/{regex}/"),
            Self::Instance(name, slot) => write!(f, "{name}:{slot}"),
            Self::Id(id) => write!(f, "{id}"),
            Self::Named(name) => f.write_str(name),
        }
    }
}

impl TryFrom<String> for Target {
    type Error = TargetError;
    fn try_from(text: String) -> Result<Self, TargetError> {
        text.parse()
    }
}

impl From<Target> for String {
    fn from(target: Target) -> Self {
        target.to_string()
    }
}

/// A new number of instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScaleTo {
    /// Exactly this many.
    Exactly(u32),
    /// More (positive) or fewer (negative).
    By(i32),
}

impl ScaleTo {
    /// How many that are if there are so many now; fewer than none as well.
    #[must_use]
    pub fn of(self, now: u32) -> i64 {
        match self {
            Self::Exactly(count) => i64::from(count),
            Self::By(difference) => i64::from(now) + i64::from(difference),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Target;

    #[test]
    fn reads_every_form_and_shows_it_again() {
        for text in ["all", "api", "api:3", "17", "/^web-/", "default"] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
        for text in ["", "a b", "api:x", "/(/", "a/b", "999999999999"] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }
}
