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
