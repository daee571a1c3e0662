//! Asking apps to do something that they announced.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::target::Target;

/// `POST /v1/trigger`. The answer has each instance's `reply`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct TriggerRequest {
    /// Which instances.
    pub targets: Vec<Target>,
    /// The name of the action.
    pub action: String,
    /// Handed to it; none and `null` are the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub params: Option<Value>,
    /// How long to wait for answers, in milliseconds.
    #[serde(default = "patience")]
    pub timeout_ms: u64,
}

/// How long is waited for answers where nothing is said, in milliseconds.
pub const PATIENCE_MS: u64 = 5000;

const fn patience() -> u64 {
    PATIENCE_MS
}
