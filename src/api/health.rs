//! Whether everything that is wanted is ready.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::names::{AppName, Slot};
use crate::model::state::State;

/// `GET /health`: status 200 if `ready`, else 503.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HealthReply {
    /// Every wanted instance is ready (or has done its work).
    pub ready: bool,
    /// A runtime that has not started everything yet.
    pub starting: bool,
    /// Those that are not.
    pub not_ready: Vec<NotReady>,
}

/// An instance that is wanted and not ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NotReady {
    /// Its app.
    pub app: AppName,
    /// Its number.
    pub slot: Slot,
    /// What it is doing.
    pub state: State,
}
