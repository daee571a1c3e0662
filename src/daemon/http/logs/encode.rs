//! A line as it is sent.

use crate::api::logs::{LogLine, LogSource};
use crate::logs::query::Parsed;
use crate::model::level::Level;
use crate::model::time::WallTime;

/// How lines are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// One JSON object a line.
    Lines,
    /// One server-sent event each.
    Events,
}

impl Form {
    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::Lines => "application/x-ndjson",
            Self::Events => "text/event-stream",
        }
    }

    /// Appends a line; `id` says where to go on behind it.
    pub(super) fn put(self, line: &LogLine, id: Option<&str>, out: &mut Vec<u8>) {
        let before = out.len();
        if self == Self::Events {
            if let Some(id) = id {
                out.extend_from_slice(b"id: ");
                out.extend_from_slice(id.as_bytes());
                out.push(b'\n');
            }
            out.extend_from_slice(b"data: ");
        }
        if serde_json::to_writer(&mut *out, line).is_err() {
            // Nothing in it can fail; half an object would be worse than none.
            out.truncate(before);
            return;
        }
        out.extend_from_slice(match self {
            Self::Lines => b"\n",
            Self::Events => b"\n\n",
        });
    }

    /// What shows that the stream lives; nothing where there is no such thing.
    pub(super) const fn sign_of_life(self) -> &'static [u8] {
        match self {
            Self::Lines => b"",
            Self::Events => b": still here\n\n",
        }
    }

    /// What tells the client that it need not come again for more.
    pub(super) const fn end(self) -> &'static [u8] {
        match self {
            Self::Lines => b"",
            Self::Events => b"event: end\ndata: {}\n\n",
        }
    }
}

/// The line of a source; `time` as far as it is known.
pub(super) fn line(source: &LogSource, parsed: &Parsed<'_>, time: Option<WallTime>) -> LogLine {
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

/// Where lines are missing from what is followed.
pub(super) fn notice(source: &LogSource, text: &[u8], now: WallTime) -> LogLine {
    LogLine {
        time: Some(now.to_string()),
        app: source.app.clone(),
        namespace: source.namespace.clone(),
        instance: source.slot,
        stream: source.stream,
        level: Some(Level::Warn),
        message: format!("[clmgr] {}", String::from_utf8_lossy(text)),
    }
}
