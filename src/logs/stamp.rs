//! Timestamps before lines: the format, translated once, and the text, formatted once a millisecond.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::logs::tokens::Tokens;
use crate::model::time::WallTime;
use crate::os::zone;

/// ISO 8601 with milliseconds and the zone's offset; used for `time = true` and in JSON records.
pub const ISO: &str = "%Y-%m-%dT%H:%M:%S%.3f%:z";

/// A format, read: nothing is [`ISO`], text with a `%` is strftime's, all else is of PM2's tokens.
fn read(format: &str) -> Tokens {
    if format.trim().is_empty() {
        return Tokens::of_codes(ISO);
    }
    if format.contains('%') {
        return Tokens::of_codes(format);
    }
    Tokens::read(format)
}

/// A format as jiff's strftime and strptime want it. Of PM2's tokens, those that have no code of strftime (`Do`, `w`,
/// `gg`, `k`, `x`…) become a NUL, so that no text is read by such a format.
#[must_use]
pub fn translate(format: &str) -> String {
    read(format).to_codes()
}

/// Formats points in time; repeats the text while the millisecond is the same.
#[derive(Debug)]
pub struct Stamper {
    format: Tokens,
    zone: TimeZone,
    last: Option<WallTime>,
    text: Vec<u8>,
}

impl Stamper {
    /// For a format as in the spec, in the system's time zone.
    #[must_use]
    pub fn new(format: &str) -> Self {
        Self::in_zone(format, zone::local())
    }

    /// For a format as in the spec, in this time zone.
    #[must_use]
    pub fn in_zone(format: &str, zone: TimeZone) -> Self {
        Self {
            format: read(format),
            zone,
            last: None,
            text: Vec::new(),
        }
    }

    /// The text for `now`. A format that jiff refuses gives ISO 8601 in UTC.
    pub fn text(&mut self, now: WallTime) -> &[u8] {
        if self.last != Some(now) {
            self.last = Some(now);
            self.text.clear();
            let zoned = Timestamp::from_millisecond(now.0)
                .unwrap_or_default()
                .to_zoned(self.zone.clone());
            let text = self.format.text(&zoned).unwrap_or_else(|| now.to_string());
            self.text
                .extend(text.bytes().map(|b| if b == b'\n' { b' ' } else { b }));
        }
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::{ISO, Stamper, translate};
    use crate::model::time::WallTime;
    use jiff::tz::{TimeZone, offset};

    #[test]
    fn reads_the_formats_of_pm2() {
        assert_eq!(translate("YYYY-MM-DD HH:mm:ss.SSS Z"), "%Y-%m-%d %H:%M:%S.%3f %:z");
        assert_eq!(translate("[at] HH:mm"), "at %H:%M");
        assert_eq!(translate("%d MM"), "%d MM");
        assert_eq!(translate(""), ISO);
    }

    #[test]
    fn formats_in_the_zone() {
        let zone = TimeZone::fixed(offset(2));
        let mut pm2 = Stamper::in_zone("YYYY-MM-DD HH:mm:ss.SSS Z", zone.clone());
        assert_eq!(pm2.text(WallTime(7)), b"1970-01-01 02:00:00.007 +02:00");
        assert_eq!(
            Stamper::in_zone("", zone.clone()).text(WallTime(0)),
            b"1970-01-01T02:00:00.000+02:00"
        );
        assert!(Stamper::in_zone("%Q!", zone).text(WallTime(1)).len() > 3);
    }

    #[test]
    fn the_clocks_change_while_it_runs() {
        let Ok(zone) = crate::os::zone::named("Europe/Berlin") else {
            return eprintln!("SKIPPED: this machine has no time zones");
        };
        let mut stamper = Stamper::in_zone("HH:mm:ss.SSS Z z", zone);
        let at = |text: &str| WallTime(text.parse::<jiff::Timestamp>().unwrap().as_millisecond());
        for (now, expected) in [
            ("2026-03-29T00:59:59.999Z", "01:59:59.999 +01:00 CET"),
            ("2026-03-29T01:00:00Z", "03:00:00.000 +02:00 CEST"),
            ("2026-10-25T00:30:00Z", "02:30:00.000 +02:00 CEST"),
            ("2026-10-25T01:30:00Z", "02:30:00.000 +01:00 CET"),
            ("2050-07-01T10:00:00Z", "12:00:00.000 +02:00 CEST"),
        ] {
            assert_eq!(stamper.text(at(now)), expected.as_bytes());
        }
    }

    #[test]
    fn readers_get_no_text_for_what_they_cannot_read() {
        assert_eq!(translate("Do MMM YYYY"), "\0 %b %Y");
    }
}
