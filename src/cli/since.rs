//! `--since`: a length of time back from now (`5m`), or a point in time (RFC 3339, or local date and time).

use std::str::FromStr;

use crate::model::duration::Millis;
use crate::model::time::WallTime;

/// A point in time as typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// This long ago.
    Ago(Millis),
    /// Then.
    At(WallTime),
}

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !text.contains('-')
            && let Ok(ago) = text.parse::<Millis>()
        {
            return Ok(Self::Ago(ago));
        }
        let local = || {
            let civil: jiff::civil::DateTime = text.parse().ok()?;
            Some(civil.to_zoned(jiff::tz::TimeZone::system()).ok()?.timestamp())
        };
        text.parse::<jiff::Timestamp>()
            .ok()
            .or_else(local)
            .map(|at| Self::At(WallTime(at.as_millisecond())))
            .ok_or_else(|| {
                format!("{text:?} is no time; write it like \"5m\", \"2026-11-21 08:30\" or \"2026-11-21T08:30:00Z\"")
            })
    }
}

impl Since {
    /// The point in time, if it is `now`.
    #[must_use]
    pub fn from(self, now: WallTime) -> WallTime {
        match self {
            Self::Ago(ago) => WallTime(now.0.saturating_sub_unsigned(ago.0)),
            Self::At(at) => at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Since;
    use crate::model::time::WallTime;

    #[test]
    fn reads_lengths_and_points() {
        let now = WallTime(1_000_000_000_000);
        let read = |text: &str| text.parse::<Since>().map(|since| since.from(now).0);
        assert_eq!(read("5m"), Ok(now.0 - 300_000));
        assert_eq!(read("1970-01-01T00:00:01Z"), Ok(1000));
        assert!(read("2026-11-21 08:30").is_ok());
        assert!(read("2026-11-21").is_ok());
        for bad in ["", "-5m", "yesterday", "2026-13-01", "99999999999999999999d"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
