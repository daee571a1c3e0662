//! A length of time as users write it: `"5s"`, `"250ms"`, `"1m30s"`, or a bare number of milliseconds.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A non-negative length of time with millisecond resolution.
///
/// As in PM2, a bare number counts milliseconds. Units: `ms`, `s`, `m`, `h`, `d`; several may follow
/// each other (`1m30s`), largest first or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub u64);

/// Why a text is no duration.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DurationError {
    /// Nothing but white space.
    #[error("a duration is empty; write it like \"5s\", \"250ms\" or \"1m30s\"")]
    Empty,
    /// A minus sign.
    #[error("a duration cannot be negative: {0:?}")]
    Negative(String),
    /// Anything else.
    #[error("{0:?} is not a duration; write it like \"5s\", \"250ms\", \"1m30s\" or as milliseconds")]
    Malformed(String),
}

impl Millis {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// Whole seconds.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs * 1000)
    }

    /// As the standard library's type.
    #[must_use]
    pub const fn to_std(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl FromStr for Millis {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = || DurationError::Malformed(text.to_owned());
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(DurationError::Empty);
        }
        if rest.starts_with('-') {
            return Err(DurationError::Negative(text.to_owned()));
        }
        if let Ok(bare) = rest.parse::<u64>() {
            return Ok(Self(bare));
        }
        let mut total: u64 = 0;
        while !rest.is_empty() {
            let digits = rest
                .find(|c: char| !c.is_ascii_digit() && c != '.')
                .ok_or_else(malformed)?;
            let unit_end = rest[digits..]
                .find(|c: char| c.is_ascii_digit() || c == ' ')
                .map_or(rest.len(), |n| digits + n);
            let per_unit: u64 = match &rest[digits..unit_end] {
                "ms" => 1,
                "s" | "sec" => 1000,
                "m" | "min" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                _ => return Err(malformed()),
            };
            let (whole, fraction) = rest[..digits].split_once('.').unwrap_or((&rest[..digits], ""));
            let part = whole
                .parse::<u64>()
                .ok()
                .and_then(|n| n.checked_mul(per_unit))
                .ok_or_else(malformed)?;
            total = total.checked_add(part).ok_or_else(malformed)?;
            if !fraction.is_empty() {
                let digits = fraction.get(..fraction.len().min(9)).ok_or_else(malformed)?;
                let scale = 10u64.pow(u32::try_from(digits.len()).map_err(|_| malformed())?);
                let value = digits.parse::<u64>().map_err(|_| malformed())?;
                let part = value.checked_mul(per_unit).ok_or_else(malformed)? / scale;
                total = total.checked_add(part).ok_or_else(malformed)?;
            }
            rest = rest[unit_end..].trim_start();
        }
        Ok(Self(total))
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        let mut left = self.0;
        for (unit, per_unit) in [
            ("d", 86_400_000),
            ("h", 3_600_000),
            ("m", 60_000),
            ("s", 1000),
            ("ms", 1),
        ] {
            let count = left / per_unit;
            if count > 0 {
                write!(f, "{count}{unit}")?;
                left -= count * per_unit;
            }
        }
        Ok(())
    }
}

impl Serialize for Millis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for Millis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Millis;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration like \"5s\", or a number of milliseconds")
            }
            fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Millis, E> {
                Ok(Millis(value))
            }
            fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Millis, E> {
                u64::try_from(value)
                    .map(Millis)
                    .map_err(|_| E::custom(DurationError::Negative(value.to_string())))
            }
            fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Millis, E> {
                value.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Millis {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A duration: milliseconds as a number, or text like \"5s\", \"250ms\", \"1m30s\".",
            "anyOf": [{ "type": "integer", "minimum": 0 }, { "type": "string" }]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{DurationError, Millis};

    #[test]
    fn reads_what_users_write() {
        for (text, millis) in [
            ("5s", 5000),
            ("250ms", 250),
            ("1m30s", 90_000),
            ("1500", 1500),
            ("0.5s", 500),
            ("1h", 3_600_000),
            ("2d", 172_800_000),
            ("1m 5s", 65_000),
        ] {
            assert_eq!(text.parse(), Ok(Millis(millis)), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_none() {
        assert_eq!("".parse::<Millis>(), Err(DurationError::Empty));
        assert!(matches!("-5s".parse::<Millis>(), Err(DurationError::Negative(_))));
        for text in ["5 apples", "s", "1x", "5s6", "99999999999999999999s", "1..5s"] {
            assert!(
                matches!(text.parse::<Millis>(), Err(DurationError::Malformed(_))),
                "{text}"
            );
        }
    }

    #[test]
    fn shows_itself_readably() {
        assert_eq!(Millis(90_500).to_string(), "1m30s500ms");
        assert_eq!(Millis(0).to_string(), "0s");
    }
}
