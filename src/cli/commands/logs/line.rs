//! One log line as it is shown: with a prefix, without, as it stands in the file, or as JSON.

use std::io::Write;

use anstyle::{AnsiColor, Style};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use regex::bytes::Regex;

use crate::api::logs::{LogLine, LogSource};
use crate::cli::commands::logs::LogsArgs;
use crate::cli::failure::Failure;
use crate::cli::render::paint;
use crate::cli::ui::{BAD, DIM, Ui};
use crate::logs::query::Parsed;
use crate::model::logspec::{LogFormat, Stream};
use crate::model::time::WallTime;
use crate::os::zone;

/// What `--grep` found.
const FOUND: Style = AnsiColor::BrightRed.on_default().bold().underline();

/// How lines are shown.
#[derive(Debug)]
pub(super) struct Printer {
    form: Form,
    /// The time of each line stands before it, in this zone.
    times: Option<TimeZone>,
    /// To be highlighted.
    found: Vec<Regex>,
}

#[derive(Clone, Copy, Debug)]
enum Form {
    /// As they are.
    Raw,
    /// One JSON object each.
    Json,
    /// What the app said.
    Bare,
    /// Behind the name, padded to this many columns.
    Prefixed(usize),
}

impl Printer {
    pub(super) fn new(args: &LogsArgs, found: &[Regex], json: bool, colour: bool) -> Self {
        Self {
            form: match (json, args.raw, args.no_prefix) {
                (true, _, _) => Form::Json,
                (false, true, _) => Form::Raw,
                (false, false, true) => Form::Bare,
                (false, false, false) => Form::Prefixed(0),
            },
            times: args.timestamps.then(zone::local),
            found: if colour && !args.invert {
                found.to_vec()
            } else {
                Vec::new()
            },
        }
    }

    /// Widens the prefix for the names of these.
    pub(super) fn make_room<'s>(&mut self, sources: impl Iterator<Item = &'s LogSource>) {
        if let Form::Prefixed(width) = &mut self.form {
            let names = sources.map(|source| name(source, None).chars().count());
            *width = names.max().unwrap_or(0).max(*width);
        }
    }

    /// Shows one line, given without its newline.
    pub(super) fn print(
        &self,
        source: &LogSource,
        line: &[u8],
        parsed: &Parsed<'_>,
        time: Option<WallTime>,
        ui: &mut Ui,
    ) -> Result<(), Failure> {
        let mut text = Vec::with_capacity(line.len() + 64);
        match self.form {
            Form::Json => return ui.json(&object(source, parsed, time)),
            Form::Raw => {
                ui.bytes(line)?;
                return ui.bytes(b"\n");
            }
            Form::Bare => {}
            Form::Prefixed(width) => {
                let style = paint::app(parsed.app.as_deref().unwrap_or(source.app.as_str()));
                let bar = if parsed.stream.or(source.stream) == Some(Stream::Err) {
                    BAD
                } else {
                    style
                };
                let name = name(source, Some(parsed));
                // Writing to memory cannot fail.
                let _ = write!(text, "{style}{name:<width$}{style:#} {bar}│{bar:#} ");
            }
        }
        match &self.times {
            Some(zone) => {
                let _ = write!(text, "{DIM}{}{DIM:#} ", shown(time, zone));
            }
            // A stamp is part of what is shown.
            None if source.format != LogFormat::Json => {
                let stamp = line.len().saturating_sub(parsed.message.len());
                text.extend_from_slice(line.get(..stamp).unwrap_or_default());
            }
            None => {}
        }
        self.highlight(&parsed.message, &mut text);
        text.push(b'\n');
        ui.bytes(&text)
    }

    /// Says what is to be known at this place, but is no line of the log.
    pub(super) fn notice(&self, source: &LogSource, notice: &[u8], ui: &mut Ui) -> Result<(), Failure> {
        ui.flush()?;
        let name = name(source, None);
        ui.warning(&format!("{name}: {}", String::from_utf8_lossy(notice)));
        Ok(())
    }

    fn highlight(&self, message: &[u8], text: &mut Vec<u8>) {
        let mut places: Vec<_> = self
            .found
            .iter()
            .flat_map(|found| found.find_iter(message).map(|found| found.range()))
            .filter(|range| !range.is_empty())
            .collect();
        places.sort_by_key(|range| (range.start, std::cmp::Reverse(range.end)));
        let mut done = 0;
        for range in places.into_iter() {
            if range.start < done {
                continue;
            }
            text.extend_from_slice(message.get(done..range.start).unwrap_or_default());
            let _ = write!(text, "{FOUND}");
            text.extend_from_slice(message.get(range.clone()).unwrap_or_default());
            let _ = write!(text, "{FOUND:#}");
            done = range.end;
        }
        text.extend_from_slice(message.get(done..).unwrap_or_default());
    }
}

/// `api`, or `api:2` where each instance has its file or the line says it.
fn name(source: &LogSource, parsed: Option<&Parsed<'_>>) -> String {
    let app = parsed
        .and_then(|parsed| parsed.app.as_deref())
        .unwrap_or(source.app.as_str());
    match source.slot.or(parsed.and_then(|parsed| parsed.instance)) {
        Some(slot) => format!("{app}:{slot}"),
        None => app.to_owned(),
    }
}

/// `2026-11-21 14:03:05.123` in the zone, and as wide where it is not known.
fn shown(time: Option<WallTime>, zone: &TimeZone) -> String {
    let stamp = time.and_then(|time| Timestamp::from_millisecond(time.0).ok());
    stamp.map_or_else(
        || " ".repeat(23),
        |stamp| {
            stamp
                .to_zoned(zone.clone())
                .strftime("%Y-%m-%d %H:%M:%S.%3f")
                .to_string()
        },
    )
}

/// The same whatever the file looks like.
fn object(source: &LogSource, parsed: &Parsed<'_>, time: Option<WallTime>) -> LogLine {
    let (app, namespace) = source.writer(parsed.app.as_deref(), parsed.namespace.as_deref());
    LogLine {
        time: time.map(|time| time.to_string()),
        app,
        namespace,
        instance: source.slot.or(parsed.instance),
        stream: source.stream.or(parsed.stream),
        level: parsed.level(),
        message: String::from_utf8_lossy(&parsed.message).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Form, Printer};
    use crate::api::logs::LogSource;
    use crate::cli::ui::Ui;
    use crate::logs::query::Parser;
    use crate::model::logspec::{LogFormat, Stream};
    use crate::model::names::AppId;
    use jiff::tz::TimeZone;
    use regex::bytes::Regex;
    use std::io::Read;

    fn source(slot: Option<u32>, format: LogFormat) -> LogSource {
        LogSource {
            id: AppId(1),
            app: "api".parse().unwrap(),
            namespace: "default".parse().unwrap(),
            slot,
            stream: Some(Stream::Out),
            format,
            zone: None,
            path: "/x".into(),
        }
    }

    fn printer(form: Form) -> Printer {
        Printer {
            form,
            times: None,
            found: Vec::new(),
        }
    }

    fn shown(printer: &Printer, source: &LogSource, line: &[u8]) -> Vec<u8> {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let mut ui = Ui::plain(Box::new(writer), Box::new(std::io::sink()));
        let parsed = Parser::new(&source.format, None);
        let parsed = parsed.parse(line);
        printer.print(source, line, &parsed, parsed.time, &mut ui).unwrap();
        ui.flush().unwrap();
        drop(ui);
        let mut text = Vec::new();
        reader.read_to_end(&mut text).unwrap();
        text
    }

    #[test]
    fn one_line_in_every_form() {
        let plain = source(Some(2), LogFormat::Raw);
        let prefixed = printer(Form::Prefixed(6));
        assert_eq!(shown(&prefixed, &plain, b"hello"), "api:2  │ hello\n".as_bytes());
        assert_eq!(shown(&printer(Form::Raw), &plain, b"hello"), b"hello\n");
        assert_eq!(shown(&printer(Form::Bare), &plain, b"hello"), b"hello\n");
        let object: serde_json::Value =
            serde_json::from_slice(&shown(&printer(Form::Json), &plain, b"a\xffb")).unwrap();
        assert_eq!(
            (object["instance"].as_u64(), object["message"].as_str()),
            (Some(2), Some("a\u{fffd}b"))
        );
        let stamped = source(None, LogFormat::Stamped(String::new()));
        let line = b"2026-11-21T10:00:00.000+00:00 [warn] hi";
        assert_eq!(shown(&printer(Form::Bare), &stamped, line), [&line[..], b"\n"].concat());
        let timed = Printer {
            times: Some(TimeZone::UTC),
            ..printer(Form::Bare)
        };
        assert_eq!(shown(&timed, &stamped, line), b"2026-11-21 10:00:00.000 [warn] hi\n");
        assert_eq!(shown(&timed, &plain, b"x"), format!("{:24}x\n", "").as_bytes());
        let object: serde_json::Value = serde_json::from_slice(&shown(&printer(Form::Json), &stamped, line)).unwrap();
        assert_eq!(
            (&object["time"], &object["level"]),
            (&"2026-11-21T10:00:00.000Z".into(), &"warn".into())
        );
    }

    #[test]
    fn json_records_are_unwrapped_and_say_who_they_are_of() {
        let record = br#"{"time":"2026-11-21T10:00:00Z","instance":7,"message":"hi"}"#;
        let json = source(None, LogFormat::Json);
        assert_eq!(
            shown(&printer(Form::Prefixed(3)), &json, record),
            "api:7 │ hi\n".as_bytes()
        );
        let other = br#"{"time":"2026-11-21T10:00:00Z","app":"other","namespace":"web","instance":1,"message":"hi"}"#;
        assert_eq!(
            shown(&printer(Form::Prefixed(7)), &json, other),
            "other:1 │ hi\n".as_bytes()
        );
        let object: serde_json::Value = serde_json::from_slice(&shown(&printer(Form::Json), &json, other)).unwrap();
        assert_eq!((&object["app"], &object["namespace"]), (&"other".into(), &"web".into()));
        assert_eq!(shown(&printer(Form::Raw), &json, record), [&record[..], b"\n"].concat());
        assert_eq!(shown(&printer(Form::Bare), &json, b"no json"), b"no json\n");
    }

    #[test]
    fn what_was_found_stands_out() {
        let found = Printer {
            found: vec![Regex::new("b+").unwrap(), Regex::new("bc|^").unwrap()],
            ..printer(Form::Bare)
        };
        let mut text = Vec::new();
        found.highlight(b"abbcb", &mut text);
        let text = String::from_utf8(text).unwrap();
        let plain = anstream::adapter::strip_str(&text).to_string();
        assert_eq!(plain, "abbcb");
        assert_eq!(text.matches("\u{1b}[0m").count(), 2, "{text:?}");
    }
}
