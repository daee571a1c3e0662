//! What an app tells about itself over its IPC channel: figures, and actions that can be asked of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A figure as it was last told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Metric {
    /// Its name, unique within the instance.
    pub name: String,
    /// A number, a text or a boolean.
    pub value: Value,
    /// What it is counted in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Its kind, in the app's own words, such as `internal/v8/heap/used`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
}

/// Something that an app does when it is asked to (`clmgr trigger`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Action {
    /// Its name, unique within the instance.
    pub name: String,
    /// `custom`; `internal` for those that a library brings along.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// It takes parameters.
    #[serde(default)]
    pub takes_params: bool,
}
