//! Where logs are, and one shape for their lines. The CLI reads the files themselves, so that reading costs the daemon
//! nothing.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::level::Level;
use crate::model::logspec::{LogFormat, LogTarget, Stream};
use crate::model::names::{AppId, AppName, Namespace, Slot};
use crate::model::ostext::OsText;

/// `GET /v1/logs/sources[?target=…]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogSources {
    /// By app, slot and stream.
    pub sources: Vec<LogSource>,
    /// Absolute path of the folder that has the time indexes of the files.
    #[serde(default)]
    pub times: Option<OsText>,
    /// Apps whose output goes into no files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub elsewhere: Vec<Elsewhere>,
}

/// Where the output of an app goes that has no log files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Elsewhere {
    /// Which app.
    pub app: AppName,
    /// Its targets; none if its output is thrown away.
    pub targets: Vec<LogTarget>,
}

/// One file that gets one stream of one instance, or of all instances when merged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogSource {
    /// Which app.
    pub id: AppId,
    /// Its name.
    pub app: AppName,
    /// Its group.
    pub namespace: Namespace,
    /// Which instance; none when the file is merged.
    pub slot: Option<Slot>,
    /// Which stream; none for a file that gets both.
    pub stream: Option<Stream>,
    /// What a line looks like.
    pub format: LogFormat,
    /// The time zone of its stamps; none: that of the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Absolute path. Rotated files stand beside it as `<path>.1` (newest) … with `.gz` if compressed.
    pub path: OsText,
}

impl LogSource {
    /// Whose line it is: that of the file's app, unless the line says another, as apps may share a file.
    #[must_use]
    pub fn writer(&self, app: Option<&str>, namespace: Option<&str>) -> (AppName, Namespace) {
        let other = app.filter(|app| *app != self.app.as_str());
        let Some(other) = other.and_then(|app| app.parse().ok()) else {
            return (self.app.clone(), self.namespace.clone());
        };
        let namespace = namespace.and_then(|name| name.parse().ok());
        (other, namespace.unwrap_or_default())
    }
}

/// One line of a log, whatever its file looks like: `GET /v1/logs`, and `clmgr logs --json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogLine {
    /// When it was written, as `2026-11-21T10:12:09.123Z`; none if nothing tells.
    pub time: Option<String>,
    /// Who wrote it.
    pub app: AppName,
    /// Its group.
    pub namespace: Namespace,
    /// Which instance; none in a merged file that does not say it.
    pub instance: Option<Slot>,
    /// Which stream; none in a file of both that does not say it.
    pub stream: Option<Stream>,
    /// How grave, where the line says it.
    pub level: Option<Level>,
    /// The line without its end, and without the time that clmgr wrote before it; invalid UTF-8 is shown as U+FFFD.
    pub message: String,
}

/// Log files, as a reader wants them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    /// To be read, each file once.
    pub read: Vec<LogSource>,
    /// Not to be read: an instance is asked for, and the lines of all do not say which it was.
    pub left_out: Vec<LogSource>,
    /// Of `read`, those that are shown with both streams though one is asked for: the lines do not say which it was.
    pub both: Vec<LogSource>,
}

impl Chosen {
    /// Of these files those that have lines of the stream (any if none) and of the instances (any if empty).
    #[must_use]
    pub fn of(sources: Vec<LogSource>, stream: Option<Stream>, instances: &[Slot]) -> Self {
        let mut chosen = Self::default();
        for source in sources {
            let is_other_stream = stream.is_some() && source.stream.is_some() && source.stream != stream;
            let is_other = source
                .slot
                .is_some_and(|slot| !instances.is_empty() && !instances.contains(&slot));
            let known = chosen.read.iter().chain(&chosen.left_out);
            if is_other_stream || is_other || known.into_iter().any(|known| known.path == source.path) {
                continue;
            }
            let tells = source.format == LogFormat::Json;
            if !instances.is_empty() && source.slot.is_none() && !tells {
                chosen.left_out.push(source);
                continue;
            }
            if stream.is_some() && source.stream.is_none() && !tells {
                chosen.both.push(source.clone());
            }
            chosen.read.push(source);
        }
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::{Chosen, LogSource};
    use crate::model::logspec::{LogFormat, Stream};
    use crate::model::names::AppId;

    fn source(slot: Option<u32>, stream: Option<Stream>, path: &str) -> LogSource {
        let json = path.contains("json");
        LogSource {
            id: AppId(1),
            app: "api".parse().unwrap(),
            namespace: "default".parse().unwrap(),
            slot,
            stream,
            format: if json { LogFormat::Json } else { LogFormat::Raw },
            zone: None,
            path: path.into(),
        }
    }

    fn chosen(stream: Option<Stream>, instances: &[u32]) -> [String; 3] {
        let sources = vec![
            source(Some(0), Some(Stream::Out), "out0"),
            source(Some(0), Some(Stream::Err), "err0"),
            source(Some(1), None, "both1"),
            source(Some(1), None, "json1"),
            source(None, Some(Stream::Out), "all"),
            source(None, None, "json"),
            source(None, Some(Stream::Out), "json"),
            source(None, Some(Stream::Err), "all"),
        ];
        let chosen = Chosen::of(sources, stream, instances);
        [chosen.read, chosen.left_out, chosen.both].map(|list| {
            let names = list.iter().map(|source| source.path.to_text().into_owned());
            names.collect::<Vec<_>>().join(" ")
        })
    }

    #[test]
    fn each_file_is_read_once_and_what_cannot_be_told_apart_is_known() {
        assert_eq!(chosen(None, &[]), ["out0 err0 both1 json1 all json", "", ""]);
        assert_eq!(
            chosen(Some(Stream::Err), &[]),
            ["err0 both1 json1 json all", "", "both1"]
        );
        assert_eq!(chosen(None, &[1]), ["both1 json1 json", "all", ""]);
        assert_eq!(chosen(Some(Stream::Out), &[0]), ["out0 json", "all", ""]);
    }
}
