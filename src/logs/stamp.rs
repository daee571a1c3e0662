//! Timestamps before lines: the format, translated once, and the text, formatted once a millisecond.

use jiff::Timestamp;
use jiff::fmt::strtime::BrokenDownTime;
use jiff::tz::TimeZone;

use crate::model::time::WallTime;

/// ISO 8601 with milliseconds and the zone's offset; used for `time = true` and in JSON records.
pub const ISO: &str = "%Y-%m-%dT%H:%M:%S%.3f%:z";

/// PM2's (moment.js) tokens and what they are in strftime, longest first.
const TOKENS: [(&str, &str); 30] = [
    ("YYYY", "%Y"),
    ("MMMM", "%B"),
    ("dddd", "%A"),
    ("DDDD", "%j"),
    ("MMM", "%b"),
    ("ddd", "%a"),
    ("SSS", "%3f"),
    ("YY", "%y"),
    ("MM", "%m"),
    ("DD", "%d"),
    ("HH", "%H"),
    ("hh", "%I"),
    ("mm", "%M"),
    ("ss", "%S"),
    ("SS", "%2f"),
    ("ZZ", "%z"),
    ("WW", "%V"),
    ("M", "%-m"),
    ("D", "%-d"),
    ("H", "%-H"),
    ("h", "%-I"),
    ("m", "%-M"),
    ("s", "%-S"),
    ("S", "%1f"),
    ("Z", "%:z"),
    ("A", "%p"),
    ("a", "%P"),
    ("W", "%-V"),
    ("X", "%s"),
    ("E", "%u"),
];

/// A format as jiff's strftime wants it: text with a `%` as it is, PM2's tokens translated (`[text]`
/// is literal), nothing is [`ISO`].
#[must_use]
pub fn translate(format: &str) -> String {
    if format.trim().is_empty() {
        return ISO.to_owned();
    }
    if format.contains('%') {
        return format.to_owned();
    }
    let mut out = String::new();
    let mut rest = format;
    while let Some(first) = rest.chars().next() {
        if let Some((literal, after)) = rest.strip_prefix('[').and_then(|text| text.split_once(']')) {
            out.push_str(literal);
            rest = after;
        } else if let Some((token, code)) = TOKENS.iter().find(|(token, _)| rest.starts_with(token)) {
            out.push_str(code);
            rest = &rest[token.len()..];
        } else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    out
}

/// Formats points in time; repeats the text while the millisecond is the same.
#[derive(Debug)]
pub struct Stamper {
    format: String,
    zone: TimeZone,
    last: Option<WallTime>,
    text: Vec<u8>,
}

impl Stamper {
    /// For a format as in the spec, in the system's time zone.
    #[must_use]
    pub fn new(format: &str) -> Self {
        Self::in_zone(format, TimeZone::system())
    }

    /// For a format as in the spec, in this time zone.
    #[must_use]
    pub fn in_zone(format: &str, zone: TimeZone) -> Self {
        Self {
            format: translate(format),
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
            let text = BrokenDownTime::from(&zoned)
                .to_string(&self.format)
                .unwrap_or_else(|_| now.to_string());
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
}
