//! `--since` and `--until`: a length of time back from now (`5m`), a time of today (`14:03`), or a point in time (RFC
//! 3339, or local date and time).

use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::Time;

use crate::model::duration::Millis;
use crate::model::time::WallTime;
use crate::os::zone;

/// A point in time as typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// This long ago.
    Ago(Millis),
    /// Then.
    At(WallTime),
    /// At this time today.
    Today(Time),
}

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !text.contains('-')
            && let Ok(ago) = text.parse::<Millis>()
        {
            return Ok(Self::Ago(ago));
        }
        if text.contains(':')
            && let Ok(time) = text.parse()
        {
            return Ok(Self::Today(time));
        }
        let local = || {
            let civil: jiff::civil::DateTime = text.parse().ok()?;
            Some(civil.to_zoned(zone::local()).ok()?.timestamp())
        };
        text.parse::<jiff::Timestamp>()
            .ok()
            .or_else(local)
            .map(|at| Self::At(WallTime(at.as_millisecond())))
            .ok_or_else(|| {
                format!(
                    "{text:?} is no time; write it like \"5m\", \"1d12h\", \"14:03\", \"2026-11-21 08:30\" or \
                     \"2026-11-21T08:30:00Z\""
                )
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
            Self::Today(time) => today(time, now).unwrap_or(now),
        }
    }
}

fn today(time: Time, now: WallTime) -> Option<WallTime> {
    let now = Timestamp::from_millisecond(now.0).ok()?.to_zoned(zone::local());
    let then = now.date().to_datetime(time).to_zoned(now.time_zone().clone()).ok()?;
    Some(WallTime(then.timestamp().as_millisecond()))
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
        assert_eq!(read("1d12h"), Ok(now.0 - 129_600_000));
        assert_eq!(read("2026-11-21 14:03:05.123").unwrap() % 60_000, 5123);
        let two = read("14:03:07").unwrap() - read("14:03").unwrap();
        assert_eq!(two, 7000);
        assert!((read("14:03").unwrap() - now.0).abs() < 90_000_000);
        for bad in ["", "-5m", "yesterday", "2026-13-01", "99999999999999999999d", "25:00"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
