//! Requests that change something, and their answers.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::env::EnvMap;
use crate::model::names::{AppId, AppName, Slot};
use crate::model::spec::AppSpec;
use crate::model::state::State;
use crate::model::target::Target;

/// `POST /v1/apply`: make these apps known and running. New ones are added and started, stopped ones
/// started, changed ones replaced by a rollout, unchanged running ones left alone.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ApplyRequest {
    /// The inherited environment of every app in `apps` whose own `env_base` is empty.
    #[serde(default)]
    pub env_base: Arc<EnvMap>,
    /// The apps.
    pub apps: Vec<AppSpec>,
    /// Take the caller's inherited environment for apps that are already known, too. Without it a known
    /// app keeps the one it was first started with.
    #[serde(default)]
    pub update_env: bool,
    /// Keep the new generation even if it fails.
    #[serde(default)]
    pub no_rollback: bool,
}

/// `POST /v1/start`, `/v1/stop`, `/v1/restart`, `/v1/reload`, `/v1/delete`, `/v1/reset`, `/v1/flush`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct TargetRequest {
    /// What is meant; every target must mean something.
    pub targets: Vec<Target>,
    /// `start`, `restart`, `reload`: replace the inherited environment by this one.
    #[serde(default)]
    pub update_env: Option<Arc<EnvMap>>,
    /// `reload`: keep the new generation even if it fails.
    #[serde(default)]
    pub no_rollback: bool,
}

/// A new number of instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScaleTo {
    /// Exactly this many.
    Exactly(u32),
    /// More (positive) or fewer (negative).
    By(i32),
}

/// `POST /v1/scale`. (`max` is resolved by the caller.)
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ScaleRequest {
    /// Which apps.
    pub targets: Vec<Target>,
    /// How many.
    pub to: ScaleTo,
}

/// `POST /v1/signal`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SignalRequest {
    /// Which instances.
    pub targets: Vec<Target>,
    /// Signal number, 1 to 64.
    pub signal: i32,
}

/// `POST /v1/send`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SendRequest {
    /// Which instances.
    pub targets: Vec<Target>,
    /// Written to standard input, with a newline added if it has none.
    pub text: String,
}

/// What became of one instance or one app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It runs now.
    Started,
    /// It is stopped now.
    Stopped,
    /// It was stopped and started.
    Restarted,
    /// It was replaced by a new generation.
    Reloaded,
    /// It is gone.
    Deleted,
    /// Its number of instances changed.
    Scaled,
    /// Its counters and circuit were reset.
    Reset,
    /// It got the signal or the text, or its logs were flushed.
    Done,
    /// It was as wanted already.
    Unchanged,
    /// It did not work.
    Failed,
}

/// One line of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InstanceResult {
    /// Which app.
    pub id: AppId,
    /// Its name.
    pub app: AppName,
    /// Which instance; none when the app as a whole is meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<Slot>,
    /// Its process now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// What was done.
    pub outcome: Outcome,
    /// Its state now; none when it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// Why, when it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The app's own last stderr lines, when it failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stderr: Vec<String>,
}

/// The answer to a mutation that worked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OperationReply {
    /// Instance by instance.
    pub results: Vec<InstanceResult>,
}
