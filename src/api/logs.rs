//! Where logs are. The CLI reads the files themselves, so that reading costs the daemon nothing.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::logspec::{LogFormat, Stream};
use crate::model::names::{AppId, AppName, Namespace, Slot};
use crate::model::ostext::OsText;

/// `GET /v1/logs/sources[?target=…]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogSources {
    /// By app, slot and stream.
    pub sources: Vec<LogSource>,
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
