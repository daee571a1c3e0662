//! An amount of memory or disk as users write it: `"500M"` (1024-based, as in PM2), or bytes.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A number of bytes. `K`, `M`, `G`, `T` are powers of 1024; a trailing `B` or `iB` changes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

/// Why a text is no size.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not a size; write it like \"500M\", \"1.5G\" or as a number of bytes")]
pub struct SizeError(String);

impl FromStr for Bytes {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let error = || SizeError(text.to_owned());
        let trimmed = text.trim();
        let digits = trimmed
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(trimmed.len());
        let shift = match trimmed[digits..].trim_start().to_ascii_uppercase().as_str() {
            "" | "B" => 0,
            "K" | "KB" | "KIB" => 10,
            "M" | "MB" | "MIB" => 20,
            "G" | "GB" | "GIB" => 30,
            "T" | "TB" | "TIB" => 40,
            _ => return Err(error()),
        };
        let (whole, fraction) = trimmed[..digits].split_once('.').unwrap_or((&trimmed[..digits], ""));
        let mut total = whole
            .parse::<u64>()
            .ok()
            .and_then(|n| n.checked_mul(1 << shift))
            .ok_or_else(error)?;
        if !fraction.is_empty() {
            let digits = &fraction[..fraction.len().min(6)];
            let value = digits.parse::<u64>().map_err(|_| error())?;
            let scale = 10u64.pow(u32::try_from(digits.len()).map_err(|_| error())?);
            total = (value << shift)
                .checked_div(scale)
                .and_then(|part| total.checked_add(part))
                .ok_or_else(error)?;
        }
        Ok(Self(total))
    }
}

impl fmt::Display for Bytes {
    /// Three significant digits at most: `512B`, `12.3M`, `1.50G`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = ["K", "M", "G", "T"];
        if self.0 < 1024 {
            return write!(f, "{}B", self.0);
        }
        let mut hundredths = u128::from(self.0) * 100 / 1024;
        let mut unit = 0;
        while hundredths >= 102_400 && unit + 1 < units.len() {
            hundredths /= 1024;
            unit += 1;
        }
        let (whole, rest) = (hundredths / 100, hundredths % 100);
        if whole >= 100 {
            write!(f, "{whole}{}", units[unit])
        } else if whole >= 10 {
            write!(f, "{whole}.{}{}", rest / 10, units[unit])
        } else {
            write!(f, "{whole}.{rest:02}{}", units[unit])
        }
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Bytes;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size like \"500M\", or a number of bytes")
            }
            fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Bytes, E> {
                Ok(Bytes(value))
            }
            fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Bytes, E> {
                u64::try_from(value)
                    .map(Bytes)
                    .map_err(|_| E::custom(SizeError(value.to_string())))
            }
            fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Bytes, E> {
                value.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Bytes {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Size".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A size: bytes as a number, or text like \"500M\" (1024-based).",
            "anyOf": [{ "type": "integer", "minimum": 0 }, { "type": "string" }]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Bytes;

    #[test]
    fn reads_and_shows() {
        for (text, bytes) in [
            ("150M", 150 << 20),
            ("1G", 1 << 30),
            ("1.5G", 3 << 29),
            ("10k", 10 << 10),
            ("512", 512),
            ("1MiB", 1 << 20),
        ] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
        }
        for text in ["", "M", "1X", "-1M", "9999999999T"] {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
        }
        for (bytes, text) in [
            (12, "12B"),
            (150 << 20, "150M"),
            (3 << 29, "1.50G"),
            (12_900_000, "12.3M"),
            (4 << 20, "4.00M"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
    }
}
