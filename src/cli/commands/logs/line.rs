//! One log line as it is shown: with a prefix, raw, or as JSON.

use std::io::Write;

use crate::api::logs::LogSource;
use crate::cli::failure::Failure;
use crate::cli::render::paint;
use crate::cli::ui::{BAD, Ui};
use crate::model::logspec::{LogFormat, Stream};

/// How lines are shown.
#[derive(Clone, Copy, Debug)]
pub(super) enum Printer {
    /// As they are.
    Raw,
    /// One JSON object each.
    Json,
    /// Behind the name, padded to this many columns.
    Prefixed(usize),
}

impl Printer {
    pub(super) fn new(sources: &[LogSource], raw: bool, json: bool) -> Self {
        let mut printer = match (json, raw) {
            (true, _) => Self::Json,
            (false, true) => Self::Raw,
            (false, false) => Self::Prefixed(0),
        };
        printer.make_room(sources);
        printer
    }

    /// Widens the prefix for the names of these.
    pub(super) fn make_room(&mut self, sources: &[LogSource]) {
        if let Self::Prefixed(width) = self {
            let names = sources.iter().map(|source| name(source).chars().count());
            *width = names.max().unwrap_or(0).max(*width);
        }
    }

    /// Shows one line, given without its newline.
    pub(super) fn print(self, source: &LogSource, line: &[u8], ui: &mut Ui) -> Result<(), Failure> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        match self {
            Self::Raw => {
                ui.bytes(line)?;
                ui.bytes(b"\n")
            }
            Self::Json => json(source, line, ui),
            Self::Prefixed(width) => prefixed(source, line, width, ui),
        }
    }
}

/// `api`, or `api:2` where each instance has its file.
fn name(source: &LogSource) -> String {
    match source.slot {
        Some(slot) => format!("{}:{slot}", source.app),
        None => source.app.to_string(),
    }
}

fn prefixed(source: &LogSource, line: &[u8], width: usize, ui: &mut Ui) -> Result<(), Failure> {
    let style = paint::app(source.app.as_str());
    let bar = if source.stream == Some(Stream::Err) {
        format!("{BAD}│{BAD:#}")
    } else {
        format!("{style}│{style:#}")
    };
    let mut text = Vec::with_capacity(line.len() + 48);
    let name = name(source);
    // Writing to memory cannot fail.
    let _ = write!(text, "{style}{name:<width$}{style:#} {bar} ");
    match message(source, line) {
        Some(message) => text.extend_from_slice(message.as_bytes()),
        None => text.extend_from_slice(line),
    }
    text.push(b'\n');
    ui.bytes(&text)
}

/// What the app said, of a line that is a JSON record.
fn message(source: &LogSource, line: &[u8]) -> Option<String> {
    match source.format {
        LogFormat::Raw | LogFormat::Stamped(_) => None,
        LogFormat::Json => {
            let record: serde_json::Value = serde_json::from_slice(line).ok()?;
            record.get("message")?.as_str().map(str::to_owned)
        }
    }
}

fn json(source: &LogSource, line: &[u8], ui: &mut Ui) -> Result<(), Failure> {
    if source.format == LogFormat::Json && serde_json::from_slice::<serde::de::IgnoredAny>(line).is_ok() {
        ui.bytes(line)?;
        return ui.bytes(b"\n");
    }
    ui.json(&serde_json::json!({
        "app": source.app,
        "namespace": source.namespace,
        "instance": source.slot,
        "stream": source.stream,
        "message": String::from_utf8_lossy(line),
    }))
}

#[cfg(test)]
mod tests {
    use super::Printer;
    use crate::api::logs::LogSource;
    use crate::cli::ui::Ui;
    use crate::model::logspec::{LogFormat, Stream};
    use crate::model::names::AppId;
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

    fn shown(source: &LogSource, raw: bool, json: bool, line: &[u8]) -> Vec<u8> {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let mut ui = Ui::plain(Box::new(writer), Box::new(std::io::sink()));
        Printer::new(std::slice::from_ref(source), raw, json)
            .print(source, line, &mut ui)
            .unwrap();
        ui.flush().unwrap();
        drop(ui);
        let mut text = Vec::new();
        reader.read_to_end(&mut text).unwrap();
        text
    }

    #[test]
    fn one_line_in_every_form() {
        let plain = source(Some(2), LogFormat::Raw);
        assert_eq!(shown(&plain, false, false, b"hello\n"), "api:2 │ hello\n".as_bytes());
        assert_eq!(shown(&plain, true, false, b"hello"), b"hello\n");
        let object: serde_json::Value = serde_json::from_slice(&shown(&plain, false, true, b"a\xffb")).unwrap();
        assert_eq!(
            (object["instance"].as_u64(), object["message"].as_str()),
            (Some(2), Some("a\u{fffd}b"))
        );
    }

    #[test]
    fn json_records_are_unwrapped_for_people_and_kept_for_programs() {
        let record = br#"{"time":"t","message":"hi"}"#;
        let json = source(None, LogFormat::Json);
        assert_eq!(shown(&json, false, false, record), "api │ hi\n".as_bytes());
        assert_eq!(shown(&json, false, true, record), [&record[..], b"\n"].concat());
        assert_eq!(shown(&json, false, false, b"no json"), "api │ no json\n".as_bytes());
    }
}
