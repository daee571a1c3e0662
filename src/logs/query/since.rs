//! `since` and `until`, of commands and of the API: a length of time back from now (`5m`), a time of today (`14:03`), or a point in time (RFC
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

/// No point in time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no time; write it like \"5m\" (ago), \"14:03\" (today), \"2026-11-21 08:30\" or \"2026-11-21T08:30:00Z\""
)]
pub struct NoTime(String);

impl FromStr for Since {
    type Err = NoTime;

    fn from_str(text: &str) -> Result<Self, NoTime> {
        if !text.contains('-')
            && let Ok(ago) = text.parse::<Millis>()
        {
            return Ok(Self::Ago(ago));
        }
        // With a date it would be read as well, and the date would be lost.
        if text.bytes().all(|byte| byte.is_ascii_digit() || b":.".contains(&byte))
            && text.contains(':')
            && let Ok(time) = text.parse()
        {
            return Ok(Self::Today(time));
        }
        let local = || {
            let civil: jiff::civil::DateTime = text.parse().ok()?;
            Some(civil.to_zoned(zone::local()).ok()?.timestamp())
        };
        text.parse::<Timestamp>()
            .ok()
            .or_else(local)
            .map(|at| Self::At(WallTime(at.as_millisecond())))
            .ok_or_else(|| NoTime(text.to_owned()))
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
        assert_eq!(read("1970-01-02T00:00:01Z"), Ok(86_401_000));
        assert_eq!(read("1970-01-02T03:00:01+03:00"), Ok(86_401_000));
        let day = read("2026-11-21 08:30").unwrap() - read("2026-11-20 08:30").unwrap();
        assert!((day - 86_400_000).abs() <= 7_200_000, "{day}");
        assert!((read("14:03").unwrap() - now.0).abs() < 90_000_000);
        for bad in ["", "-5m", "yesterday", "2026-13-01", "99999999999999999999d", "25:00"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
