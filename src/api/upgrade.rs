//! Replacing the manager by another build.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::ostext::OsText;

/// `POST /v1/upgrade`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct UpgradeRequest {
    /// The program to go on with, an absolute path.
    pub exe: OsText,
}

/// The answer: it has begun. `GET /v1/upgrade/outcome` tells how it ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UpgradeBegun {
    /// Names it.
    pub id: u64,
    /// The version that runs.
    pub from: String,
    /// The version of the program.
    pub to: String,
    /// The daemon that answers, and ends now.
    pub daemon_pid: i32,
    /// The keeper.
    pub keeper_pid: i32,
}

/// `GET /v1/upgrade/outcome`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UpgradeStatus {
    /// The one that has not ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub under_way: Option<u64>,
    /// The last one that has, in the life of this keeper.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<UpgradeResult>,
}

/// How an upgrade ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UpgradeResult {
    /// Which one.
    pub id: u64,
    /// The program.
    pub exe: OsText,
    /// The version that was there.
    pub from: String,
    /// The version asked for.
    pub to: String,
    /// Whether that is there now; otherwise everything is as before.
    pub ok: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The daemon that was asked; 0 if unknown.
    pub daemon_before: i32,
    /// The daemon that took over, or was started again; 0 if unknown.
    pub daemon_after: i32,
    /// The keeper: the same process before and after.
    pub keeper_pid: i32,
    /// The version it runs now.
    pub keeper_version: String,
    /// Processes that lived before and live after it.
    pub processes: u32,
    /// How long nobody answered, in milliseconds; who asked meanwhile had to wait.
    pub gap_ms: u64,
}
