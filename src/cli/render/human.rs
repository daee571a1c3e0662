//! Times and sizes for people: the two largest units, nothing more.

use crate::model::time::WallTime;

/// `42s`, `5m 12s`, `2h 13m`, `3d 4h`.
#[must_use]
pub fn uptime(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, _, _) => format!("{hours}h {}m", minutes % 60),
        (_, _, _) => format!("{days}d {}h", hours % 24),
    }
}

/// Local date and time to the second; milliseconds since 1970 where the zone is not known.
#[must_use]
pub fn local_time(at: WallTime) -> String {
    jiff::Timestamp::from_millisecond(at.0).map_or_else(
        |_| at.to_string(),
        |stamp| {
            stamp
                .to_zoned(crate::os::zone::local())
                .strftime("%Y-%m-%d %H:%M:%S")
                .to_string()
        },
    )
}

/// `12.3%`, or `-` while nothing is known.
#[must_use]
pub fn percent(share: Option<f32>) -> String {
    share.map_or_else(|| "-".to_owned(), |share| format!("{share:.1}%"))
}

/// `one instance`, `4 instances`.
#[must_use]
pub fn count(number: usize, noun: &str) -> String {
    if number == 1 {
        format!("1 {noun}")
    } else {
        format!("{number} {noun}s")
    }
}

/// A JSON value; a text without its quotes.
#[must_use]
pub fn value(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::uptime;

    #[test]
    fn shows_two_units() {
        for (milliseconds, text) in [
            (0, "0s"),
            (59_999, "59s"),
            (60_000, "1m 0s"),
            (3_599_999, "59m 59s"),
            (7_980_000, "2h 13m"),
            (273_600_000, "3d 4h"),
            (u64::MAX, "213503982334d 14h"),
        ] {
            assert_eq!(uptime(milliseconds), text);
        }
    }
}
