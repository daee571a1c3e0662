//! The days that rotation by time counts.

use jiff::tz::TimeZone;

use crate::logs::rotate::next_due;
use crate::model::duration::Millis;
use crate::model::time::WallTime;
use crate::os::zone;

/// A time zone, read only for files that are rotated by time.
#[derive(Debug)]
pub(super) struct Days(Option<Box<(Option<String>, TimeZone)>>);

impl Days {
    /// No zone yet: no boundaries.
    pub(super) const fn new() -> Self {
        Self(None)
    }

    /// Counts in the zone of this setting, see [`zone::of`]. True if that is another than before.
    pub(super) fn set(&mut self, setting: Option<&str>) -> bool {
        let changed = self.0.as_ref().is_none_or(|known| known.0.as_deref() != setting);
        if changed {
            self.0 = Some(Box::new((setting.map(str::to_owned), zone::of(setting))));
        }
        changed
    }

    /// The next boundary of `every` after `since`.
    pub(super) fn next(&self, every: Option<Millis>, since: WallTime) -> Option<WallTime> {
        Some(next_due(every?, since, &self.0.as_ref()?.1))
    }
}

#[cfg(test)]
mod tests {
    use super::Days;
    use crate::model::duration::Millis;
    use crate::model::time::WallTime;

    #[test]
    fn a_day_begins_where_the_setting_says() {
        let day = Some(Millis::from_secs(86_400));
        let mut days = Days::new();
        assert_eq!(days.next(day, WallTime(0)), None);
        assert!(days.set(Some("UTC")));
        assert!(!days.set(Some("UTC")));
        assert_eq!(days.next(day, WallTime(7)), Some(WallTime(86_400_000)));
        assert_eq!(days.next(None, WallTime(7)), None);
        if crate::os::zone::named("Asia/Tokyo").is_err() {
            return eprintln!("SKIPPED: this machine has no time zones");
        }
        assert!(days.set(Some("Asia/Tokyo")));
        assert_eq!(days.next(day, WallTime(7)), Some(WallTime(15 * 3_600_000)));
    }
}
