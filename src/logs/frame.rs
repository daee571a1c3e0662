//! Turns an app's bytes into what stands in the file.

use std::ops::Range;

use memchr::memchr_iter;

use crate::logs::level;
use crate::logs::sink::Origin;
use crate::logs::stamp::{ISO, Stamper};
use crate::model::logspec::{LogFormat, Stream};
use crate::model::time::WallTime;
use crate::os::plain::is_plain;
use crate::os::zone;

/// So many bytes are encoded at once and no more, but for the last line: they are in memory.
pub const ENOUGH: usize = if cfg!(test) { 200 } else { 640 << 10 };

/// How one stream's lines are written.
#[derive(Debug)]
pub enum Framing {
    /// As they are.
    Raw,
    /// After a timestamp, by the stamper with this number.
    Stamped(usize),
    /// As JSON: time, app, namespace, instance, pid, stream, level if there is one, message, in this order. Everything
    /// between the time and the level is ready. The number is a stamper's.
    Json(usize, Box<[u8]>),
}

/// A format and the setting of its zone.
type Wanted = (String, Option<String>);

/// The timestamps of all formats and zones in use; a few, each used by many streams.
#[derive(Debug, Default)]
pub struct Stampers {
    all: Vec<(Wanted, Stamper)>,
}

impl Stampers {
    /// The number of the stamper for this format in this zone.
    pub fn number(&mut self, format: &str, zone: Option<&str>) -> usize {
        let same = |wanted: &Wanted| wanted.0 == format && wanted.1.as_deref() == zone;
        let known = self.all.iter().position(|(wanted, _)| same(wanted));
        known.unwrap_or_else(|| {
            let wanted = (format.to_owned(), zone.map(str::to_owned));
            self.all.push((wanted, Stamper::in_zone(format, zone::of(zone))));
            self.all.len() - 1
        })
    }

    fn text(&mut self, number: usize, now: WallTime) -> &[u8] {
        self.all.get_mut(number).map_or(b"", |(_, stamper)| stamper.text(now))
    }
}

impl Framing {
    /// For a stream.
    pub fn new(
        format: &LogFormat,
        zone: Option<&str>,
        origin: &Origin,
        stream: Stream,
        stampers: &mut Stampers,
    ) -> Self {
        match format {
            LogFormat::Raw => Self::Raw,
            LogFormat::Stamped(format) => Self::Stamped(stampers.number(format, zone)),
            LogFormat::Json => {
                let mut middle = b"\",\"app\":\"".to_vec();
                escape(origin.app.as_str().as_bytes(), &mut middle);
                middle.extend_from_slice(b"\",\"namespace\":\"");
                escape(origin.namespace.as_str().as_bytes(), &mut middle);
                let rest = format!(
                    "\",\"instance\":{},\"pid\":{},\"stream\":\"{}\"",
                    origin.slot,
                    origin.pid,
                    stream.as_str()
                );
                middle.extend_from_slice(rest.as_bytes());
                Self::Json(stampers.number(ISO, zone), middle.into_boxed_slice())
            }
        }
    }

    /// Whether a line can only be written when it is complete.
    #[must_use]
    pub const fn needs_whole_lines(&self) -> bool {
        matches!(self, Self::Json(..))
    }

    /// Appends `data` as it shall stand in the file; how much of it: no more lines once `out` has [`ENOUGH`] bytes.
    /// `fresh`: it begins a line. Not for JSON data that does not end with a newline: such a record says
    /// `"partial":true`.
    pub fn encode(&self, data: &[u8], fresh: bool, now: WallTime, stampers: &mut Stampers, out: &mut Vec<u8>) -> usize {
        match self {
            Self::Raw => {
                out.extend_from_slice(data);
                data.len()
            }
            Self::Stamped(number) => encode_stamped(data, fresh, stampers.text(*number, now), out),
            Self::Json(number, middle) => encode_json(data, stampers.text(*number, now), middle, out),
        }
    }

    /// Appends a line of our own, never partial.
    pub fn marker(&self, text: &str, now: WallTime, stampers: &mut Stampers, out: &mut Vec<u8>) {
        let line = format!("{text}\n");
        self.encode(line.as_bytes(), true, now, stampers, out);
    }
}

/// The lines of `data` with their newlines; the last may have none.
fn lines(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let unfinished = (data.last() != Some(&b'\n')).then_some(data.len());
    let ends = memchr_iter(b'\n', data).map(|at| at + 1).chain(unfinished);
    ends.scan(0, |from, end| data.get(std::mem::replace(from, end)..end))
}

fn encode_stamped(data: &[u8], fresh: bool, stamp: &[u8], out: &mut Vec<u8>) -> usize {
    let begin = out.len();
    let mut done = 0;
    let mut start = fresh;
    // Where the stamp stands that is repeated.
    let mut stamped = None;
    for line in lines(data).take_while(|line| !line.is_empty()) {
        if out.len() - begin >= ENOUGH {
            break;
        }
        match &stamped {
            Some(range) => out.extend_from_within(Range::clone(range)),
            None if start => {
                let at = out.len();
                out.extend_from_slice(stamp);
                out.push(b' ');
                stamped = Some(at..out.len());
            }
            None => {}
        }
        out.extend_from_slice(line);
        done += line.len();
        start = true;
    }
    done
}

fn encode_json(data: &[u8], stamp: &[u8], middle: &[u8], out: &mut Vec<u8>) -> usize {
    let begin = out.len();
    let mut done = 0;
    let plain = is_plain(data);
    let mut head = None;
    for line in lines(data).take_while(|line| !line.is_empty()) {
        if out.len() - begin >= ENOUGH {
            break;
        }
        let message = line.strip_suffix(b"\n");
        let text = message.unwrap_or(line);
        // An object has quotes.
        let level = if plain { None } else { level::of_json(text) };
        match (&head, level) {
            (Some(range), None) => out.extend_from_within(Range::clone(range)),
            (_, level) => {
                let at = out.len();
                out.extend_from_slice(b"{\"time\":\"");
                out.extend_from_slice(stamp);
                out.extend_from_slice(middle);
                if let Some(level) = level {
                    out.extend_from_slice(b",\"level\":\"");
                    out.extend_from_slice(level.as_str().as_bytes());
                    out.push(b'"');
                }
                out.extend_from_slice(b",\"message\":\"");
                if level.is_none() {
                    head = Some(at..out.len());
                }
            }
        }
        if plain {
            out.extend_from_slice(text);
        } else {
            escape(text, out);
        }
        let end: &[u8] = if message.is_some() {
            b"\"}\n"
        } else {
            b"\",\"partial\":true}\n"
        };
        out.extend_from_slice(end);
        done += line.len();
    }
    done
}

/// Appends text as the inside of a JSON string; invalid UTF-8 becomes U+FFFD.
fn escape(text: &[u8], out: &mut Vec<u8>) {
    if is_plain(text) && !text.contains(&b'\n') {
        out.extend_from_slice(text);
        return;
    }
    for chunk in text.utf8_chunks() {
        let valid = chunk.valid().as_bytes();
        let mut plain = 0;
        for (at, byte) in valid.iter().enumerate() {
            if *byte >= 0x20 && *byte != b'"' && *byte != b'\\' {
                continue;
            }
            out.extend_from_slice(&valid[plain..at]);
            plain = at + 1;
            match *byte {
                b'"' => out.extend_from_slice(b"\\\""),
                b'\\' => out.extend_from_slice(b"\\\\"),
                b'\t' => out.extend_from_slice(b"\\t"),
                b'\r' => out.extend_from_slice(b"\\r"),
                b'\n' => out.extend_from_slice(b"\\n"),
                other => {
                    let digit = |n: u8| if n < 10 { b'0' + n } else { b'a' + n - 10 };
                    out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(other >> 4), digit(other & 15)]);
                }
            }
        }
        out.extend_from_slice(&valid[plain..]);
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Framing, Stampers};
    use crate::logs::sink::Origin;
    use crate::model::logspec::{LogFormat, Stream};
    use crate::model::time::WallTime;

    fn encode(format: &LogFormat, data: &[u8], fresh: bool) -> Vec<u8> {
        let origin = Origin {
            app: "api".parse().unwrap(),
            namespace: "default".parse().unwrap(),
            slot: 3,
            pid: 42,
        };
        let mut stampers = Stampers::default();
        let framing = Framing::new(format, Some("UTC"), &origin, Stream::Err, &mut stampers);
        let mut out = Vec::new();
        framing.encode(data, fresh, WallTime(0), &mut stampers, &mut out);
        out
    }

    #[test]
    fn stamps_each_line_once() {
        let format = LogFormat::Stamped("[T]".into());
        assert_eq!(encode(&format, b"a\n\nb\r\x00\xff", true), b"T a\nT \nT b\r\x00\xff");
        assert_eq!(encode(&format, b"rest\nx\n", false), b"rest\nT x\n");
    }

    #[test]
    fn a_record_has_the_level_of_an_object_before_the_message() {
        let line = encode(&LogFormat::Json, b"{\"lvl\":\"WRN\"}\n", true);
        let start = "{\"time\":\"1970-01-01T00:00:00.000+00:00\",\"app\":\"api\",\"namespace\":\"default\",";
        let rest = "\"instance\":3,\"pid\":42,\"stream\":\"err\",\"level\":\"warn\",\"message\":\"{\\\"lvl\\\":\\\"WRN\\\"}\"}\n";
        assert_eq!(String::from_utf8(line).unwrap(), format!("{start}{rest}"));
    }

    #[test]
    fn writes_json_whatever_the_bytes() {
        let all: Vec<u8> = (0..=255).filter(|b| *b != b'\n').chain(*b"\n").collect();
        for data in [&all[..], b"\n", b"\"\\\t\r\n", "wörld\n".as_bytes(), b"cut \xf0\x9f\n"] {
            let line = encode(&LogFormat::Json, data, true);
            assert_eq!(line.iter().filter(|b| **b == b'\n').count(), 1);
            let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
            assert_eq!(value["app"], "api");
            assert_eq!((value["instance"].as_u64(), value["pid"].as_u64()), (Some(3), Some(42)));
            assert_eq!(value["stream"], "err");
            let expected = String::from_utf8_lossy(&data[..data.len() - 1]).into_owned();
            assert_eq!(value["message"], expected);
        }
        let partial: serde_json::Value = serde_json::from_slice(&encode(&LogFormat::Json, b"x", true)).unwrap();
        assert_eq!(partial["partial"], true);
    }
}
