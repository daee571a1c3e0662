//! What a line says of itself: when, how grave, who, and what.

use std::borrow::Cow;

use jiff::Timestamp;
use jiff::fmt::strtime::BrokenDownTime;
use jiff::tz::TimeZone;
use serde::Deserialize;

use crate::logs::query::level;
use crate::logs::stamp::{Stamper, translate};
use crate::model::level::Level;
use crate::model::logspec::{LogFormat, Stream};
use crate::model::names::Slot;
use crate::model::time::WallTime;
use crate::os::zone;

/// What is known of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed<'a> {
    /// When it was written, if the line says so.
    pub time: Option<WallTime>,
    /// What a JSON record says of its app, which may share the file with others.
    pub app: Option<Cow<'a, str>>,
    /// What a JSON record says of the group of its app.
    pub namespace: Option<Cow<'a, str>>,
    /// What a JSON record says of its stream.
    pub stream: Option<Stream>,
    /// What a JSON record says of its instance.
    pub instance: Option<Slot>,
    /// What the app wrote, without what clmgr put around it.
    pub message: Cow<'a, [u8]>,
    /// What a JSON record says of its level.
    stated: Option<Level>,
}

impl Parsed<'_> {
    /// How grave it is, if it says so in one of the usual ways.
    #[must_use]
    pub fn level(&self) -> Option<Level> {
        self.stated.or_else(|| level::of_message(&self.message))
    }
}

/// Reads the lines of one file.
#[derive(Clone, Debug)]
pub struct Parser {
    form: Form,
}

#[derive(Clone, Debug)]
enum Form {
    Raw,
    Json,
    Stamped { format: String, zone: TimeZone },
}

#[derive(Deserialize)]
struct Record<'a> {
    #[serde(borrow, default)]
    time: Cow<'a, str>,
    #[serde(default)]
    level: Option<serde_json::Value>,
    #[serde(borrow, default)]
    app: Cow<'a, str>,
    #[serde(borrow, default)]
    namespace: Cow<'a, str>,
    #[serde(default)]
    stream: Option<Stream>,
    #[serde(default)]
    instance: Option<Slot>,
    #[serde(borrow)]
    message: Cow<'a, str>,
}

impl Parser {
    /// For lines of this format, whose stamps are in this time zone, as it is set for the app: none is the machine's.
    #[must_use]
    pub fn new(format: &LogFormat, zone: Option<&str>) -> Self {
        Self::in_zone(format, zone::of(zone))
    }

    /// For lines of this format, whose stamps are in this time zone.
    #[must_use]
    pub fn in_zone(format: &LogFormat, zone: TimeZone) -> Self {
        let form = match format {
            LogFormat::Raw => Form::Raw,
            LogFormat::Json => Form::Json,
            LogFormat::Stamped(format) => stamped(format, zone),
        };
        Self { form }
    }

    /// Lines of this format say when they were written.
    #[must_use]
    pub const fn is_timed(&self) -> bool {
        !matches!(self.form, Form::Raw)
    }

    /// What this line says; it is given without its newline.
    #[must_use]
    pub fn parse<'a>(&self, line: &'a [u8]) -> Parsed<'a> {
        match &self.form {
            Form::Raw => plain(line),
            Form::Json => std::str::from_utf8(line).map_or_else(|_| plain(line), record),
            Form::Stamped { format, zone } => match stamp(format, zone, line) {
                Some((time, message)) => Parsed {
                    time: Some(time),
                    ..plain(message)
                },
                None => plain(line),
            },
        }
    }

    /// Only when it was written, which is cheaper.
    #[must_use]
    pub fn time(&self, line: &[u8]) -> Option<WallTime> {
        match &self.form {
            Form::Raw => None,
            Form::Json => {
                let Some(rest) = line.strip_prefix(b"{\"time\":\"") else {
                    return self.parse(line).time;
                };
                let end = memchr::memchr(b'"', rest)?;
                instant(std::str::from_utf8(rest.get(..end)?).ok()?)
            }
            Form::Stamped { format, zone } => stamp(format, zone, line).map(|(time, _)| time),
        }
    }

    /// How far times may go back where clocks do not: an hour is told twice when summer ends, unless stamps carry
    /// their offset. In milliseconds.
    #[must_use]
    pub fn ambiguity(&self, at: WallTime) -> i64 {
        const HOUR: i64 = 3_600_000;
        let Form::Stamped { format, zone } = &self.form else {
            return 0;
        };
        let absolute = ["%z", "%:z", "%::z", "%s", "%Q", "%:Q"];
        if absolute.iter().any(|code| format.contains(code)) {
            return 0;
        }
        let Ok(end) = Timestamp::from_millisecond(at.0.saturating_add(3 * HOUR)) else {
            return 0;
        };
        let near = zone.preceding(end).next();
        near.map_or(0, |change| {
            let since = at.0.saturating_sub(change.timestamp().as_millisecond());
            if since < 3 * HOUR { 2 * HOUR } else { 0 }
        })
    }
}

/// Stamps of a format that says the day; others tell no more than raw lines do.
fn stamped(format: &str, zone: TimeZone) -> Form {
    const SOME_TIME: WallTime = WallTime(1_000_000_000_000);
    const DAY: u64 = 86_400_000;
    let mut stamper = Stamper::in_zone(format, zone.clone());
    let format = translate(format);
    match stamp(&format, &zone, stamper.text(SOME_TIME)) {
        Some((read, _)) if read.0.abs_diff(SOME_TIME.0) <= DAY => Form::Stamped { format, zone },
        Some(_) | None => Form::Raw,
    }
}

fn plain(line: &[u8]) -> Parsed<'_> {
    Parsed {
        time: None,
        app: None,
        namespace: None,
        stream: None,
        instance: None,
        message: Cow::Borrowed(line),
        stated: None,
    }
}

fn record(line: &str) -> Parsed<'_> {
    let Ok(record) = serde_json::from_str::<Record<'_>>(line) else {
        return plain(line.as_bytes());
    };
    Parsed {
        time: instant(&record.time),
        app: Some(record.app).filter(|app| !app.is_empty()),
        namespace: Some(record.namespace).filter(|name| !name.is_empty()),
        stream: record.stream,
        instance: record.instance,
        stated: record.level.as_ref().and_then(level::of_value),
        message: match record.message {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        },
    }
}

fn instant(text: &str) -> Option<WallTime> {
    let stamp: Timestamp = text.parse().ok()?;
    Some(WallTime(stamp.as_millisecond()))
}

fn stamp<'a>(format: &str, zone: &TimeZone, line: &'a [u8]) -> Option<(WallTime, &'a [u8])> {
    let (parsed, read) = BrokenDownTime::parse_prefix(format, line).ok()?;
    let local = || Some(parsed.to_datetime().ok()?.to_zoned(zone.clone()).ok()?.timestamp());
    let time = parsed.to_timestamp().ok().or_else(local)?;
    let rest = line.get(read..).unwrap_or_default();
    Some((WallTime(time.as_millisecond()), rest.strip_prefix(b" ").unwrap_or(rest)))
}

#[cfg(test)]
mod tests {
    use super::Parser;
    use crate::logs::stamp::Stamper;
    use crate::model::level::Level;
    use crate::model::logspec::{LogFormat, Stream};
    use crate::model::time::WallTime;
    use jiff::tz::TimeZone;

    #[test]
    fn a_stamp_is_read_in_the_zone_it_was_written_in() {
        for zone in ["UTC0", "IST-5:30", "EST5EDT,M3.2.0,M11.1.0"] {
            for format in ["", "YYYY-MM-DD HH:mm:ss.SSS", "%d/%b/%Y:%H:%M:%S%.3f", "X.SSS"] {
                let mut stamper = Stamper::in_zone(format, TimeZone::posix(zone).unwrap());
                let time = WallTime(1_792_000_000_123);
                let line = [stamper.text(time), b" error: \xff"].concat();
                let parser = Parser::in_zone(&LogFormat::Stamped(format.to_owned()), TimeZone::posix(zone).unwrap());
                let parsed = parser.parse(&line);
                assert_eq!(&*parsed.message, b"error: \xff", "{zone} {format}");
                assert_eq!(parser.time(&line), parsed.time);
                assert_eq!(parsed.level(), Some(Level::Error));
                let exact = if format.starts_with('X') {
                    parsed.time
                } else {
                    Some(time)
                };
                assert_eq!(parsed.time, exact, "{zone} {format}");
                assert!(parsed.time.is_some(), "{zone} {format}");
            }
        }
        let parser = Parser::new(&LogFormat::Stamped(String::new()), None);
        let untold = Parser::new(&LogFormat::Stamped("HH:mm:ss".to_owned()), None);
        assert!(!untold.is_timed() && parser.is_timed());
        let odd = parser.parse(b"  at main.js:7");
        assert_eq!((odd.time, &*odd.message), (None, &b"  at main.js:7"[..]));
    }

    #[test]
    fn a_record_says_who_and_what() {
        let parser = Parser::new(&LogFormat::Json, None);
        let line = br#"{"time":"2026-11-21T10:00:00.001Z","app":"a","instance":3,"stream":"err","level":"warn","message":"a\tb"}"#;
        let parsed = parser.parse(line);
        assert_eq!(parsed.time, parser.time(line));
        assert_eq!(parsed.time, Some(WallTime(1_795_255_200_001)));
        assert_eq!((parsed.stream, parsed.instance), (Some(Stream::Err), Some(3)));
        assert_eq!((parsed.level(), &*parsed.message), (Some(Level::Warn), &b"a\tb"[..]));
        assert_eq!((parsed.app.as_deref(), parsed.namespace.as_deref()), (Some("a"), None));
        let inner = br#"{"time":"2026-11-21T10:00:00Z","message":"{\"level\":50}"}"#;
        assert_eq!(parser.parse(inner).level(), Some(Level::Error));
        for odd in [&b"no json"[..], b"{\"time\":1}", b"\xff"] {
            let parsed = parser.parse(odd);
            assert_eq!((parsed.time, &*parsed.message), (None, odd));
        }
    }

    #[test]
    fn only_stamps_without_an_offset_are_ambiguous_and_only_in_autumn() {
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let at = |text: &str| WallTime(text.parse::<jiff::Timestamp>().unwrap().as_millisecond());
        let local = Parser::in_zone(&LogFormat::Stamped("YYYY-MM-DD HH:mm:ss".into()), zone.clone());
        assert!(local.ambiguity(at("2026-10-25T01:30:00Z")) > 0);
        assert!(local.ambiguity(at("2026-10-25T00:30:00Z")) > 0);
        assert_eq!(local.ambiguity(at("2026-11-25T00:30:00Z")), 0);
        let iso = Parser::in_zone(&LogFormat::Stamped(String::new()), zone);
        assert_eq!(iso.ambiguity(at("2026-10-25T01:30:00Z")), 0);
    }
}
