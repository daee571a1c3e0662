//! Requests that change something, and their answers.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::env::EnvMap;
pub use crate::model::outcome::{InstanceResult, Outcome};
use crate::model::spec::AppSpec;
pub use crate::model::target::ScaleTo;
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

/// `POST /v1/start`, `/v1/stop`, `/v1/restart`, `/v1/reload`, `/v1/delete`, `/v1/reset`, `/v1/flush`,
/// `/v1/reopen`.
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

/// The answer to a mutation that worked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OperationReply {
    /// Instance by instance.
    pub results: Vec<InstanceResult>,
}
