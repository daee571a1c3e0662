//! The lines of several sources as one text.

use jiff::Timestamp;
use jiff::fmt::strtime::BrokenDownTime;
use jiff::tz::TimeZone;

use crate::logs::stamp::translate;
use crate::logs::tail::Line;
use crate::model::logspec::LogFormat;

/// The last lines of one source.
#[derive(Clone, Debug)]
pub struct SourceLines {
    /// The number the lines shall carry.
    pub source: usize,
    /// How they were written.
    pub format: LogFormat,
    /// Oldest first.
    pub lines: Vec<Vec<u8>>,
}

/// All lines by time, if every source has times; else source after source. Lines of the same time
/// stay in the order of the sources; a line without a time stays behind the one before it.
#[must_use]
pub fn order(sources: Vec<SourceLines>) -> Vec<Line> {
    let timed = sources.iter().all(|source| !matches!(source.format, LogFormat::Raw));
    let zone = TimeZone::system();
    let mut all = Vec::new();
    for source in sources {
        let mut time = Timestamp::MIN;
        let reader = timed.then(|| Reader::new(&source.format));
        for bytes in source.lines {
            let read = reader.as_ref().and_then(|reader| reader.time(&bytes, &zone));
            time = read.unwrap_or(time);
            let line = Line {
                source: source.source,
                bytes,
                notice: false,
            };
            all.push((time, line));
        }
    }
    if timed {
        all.sort_by_key(|(time, _)| *time);
    }
    all.into_iter().map(|(_, line)| line).collect()
}

/// Reads the time of a line.
#[derive(Debug)]
pub struct Reader {
    /// None for JSON.
    stamp: Option<String>,
}

impl Reader {
    /// For lines of this format; raw lines have no time.
    #[must_use]
    pub fn new(format: &LogFormat) -> Self {
        let stamp = match format {
            LogFormat::Raw => Some(String::new()),
            LogFormat::Stamped(format) => Some(translate(format)),
            LogFormat::Json => None,
        };
        Self { stamp }
    }

    /// When the line was written, if it says so; a time without an offset is in `zone`.
    #[must_use]
    pub fn time(&self, line: &[u8], zone: &TimeZone) -> Option<Timestamp> {
        let Some(format) = &self.stamp else {
            let rest = line.strip_prefix(b"{\"time\":\"")?;
            let end = memchr::memchr(b'"', rest)?;
            return std::str::from_utf8(rest.get(..end)?).ok()?.parse().ok();
        };
        let (parsed, _) = BrokenDownTime::parse_prefix(format, line).ok()?;
        parsed.to_timestamp().ok().or_else(|| {
            let zoned = parsed.to_datetime().ok()?.to_zoned(zone.clone()).ok()?;
            Some(zoned.timestamp())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{SourceLines, order};
    use crate::logs::stamp::{ISO, Stamper};
    use crate::model::logspec::LogFormat;
    use crate::model::time::WallTime;

    fn stamped(source: usize, format: &str, lines: &[(i64, &str)]) -> SourceLines {
        let mut stamper = Stamper::new(format);
        let line = |(time, text): &(i64, &str)| match *time {
            0 => text.as_bytes().to_vec(),
            time => [stamper.text(WallTime(time)), b" ", text.as_bytes()].concat(),
        };
        SourceLines {
            source,
            format: LogFormat::Stamped(format.to_owned()),
            lines: lines.iter().map(line).collect(),
        }
    }

    #[test]
    fn orders_by_time_across_formats() {
        let lines = order(vec![
            stamped(0, "", &[(1_000_000, "a"), (0, "of a"), (3_000_000, "c")]),
            stamped(1, "YYYY-MM-DD HH:mm:ss.SSS", &[(2_000_000, "b")]),
            SourceLines {
                source: 2,
                format: LogFormat::Json,
                lines: vec![b"{\"time\":\"1970-01-01T00:33:20.001Z\",\"message\":\"x\"}".to_vec()],
            },
        ]);
        let sources: Vec<usize> = lines.iter().map(|line| line.source).collect();
        assert_eq!(sources, [0, 0, 1, 2, 0]);
        assert_eq!(lines[1].bytes, b"of a");
    }

    #[test]
    fn keeps_the_order_of_sources_when_one_has_no_times() {
        let raw = SourceLines {
            source: 1,
            format: LogFormat::Raw,
            lines: vec![b"raw".to_vec()],
        };
        let lines = order(vec![stamped(0, ISO, &[(9_000_000, "late")]), raw]);
        assert_eq!(lines.iter().map(|line| line.source).collect::<Vec<_>>(), [0, 1]);
    }
}
