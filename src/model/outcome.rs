//! What became of a request: per instance, or a refusal as a whole.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::names::{AppId, AppName, Slot};
use crate::model::state::State;

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
    /// What it answered (`trigger`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<serde_json::Value>,
}

/// The kind decides the HTTP status and the CLI's exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The request makes no sense. 400, exit code 2.
    BadRequest,
    /// No app or instance is meant by the target. 404, exit code 3.
    NotFound,
    /// Something else is going on with the same app. 409, exit code 4.
    Conflict,
    /// It was tried and did not work. 422, exit code 1.
    Failed,
    /// The caller may not. 403, exit code 6.
    Forbidden,
    /// The body is larger than the daemon takes. 413, exit code 2.
    TooLarge,
    /// The state could not be written; nothing was changed. 507, exit code 1.
    Storage,
    /// The daemon is shutting down. 503, exit code 5.
    Unavailable,
    /// A bug. 500, exit code 70.
    Internal,
}

impl ErrorKind {
    /// HTTP status.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::NotFound => 404,
            Self::Conflict => 409,
            Self::Failed => 422,
            Self::Forbidden => 403,
            Self::TooLarge => 413,
            Self::Storage => 507,
            Self::Unavailable => 503,
            Self::Internal => 500,
        }
    }

    /// What the CLI exits with.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Failed | Self::Storage => 1,
            Self::BadRequest | Self::TooLarge => 2,
            Self::NotFound => 3,
            Self::Conflict => 4,
            Self::Unavailable => 5,
            Self::Forbidden => 6,
            Self::Internal => 70,
        }
    }
}

/// The body of every answer that is not 2xx.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorBody {
    /// What kind of no.
    pub kind: ErrorKind,
    /// What, where, why.
    pub message: String,
    /// The next step.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<String>,
    /// What was done, instance by instance, when part of it was tried.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub results: Vec<InstanceResult>,
}

impl ErrorBody {
    /// An error without hints or results.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            hints: Vec::new(),
            results: Vec::new(),
        }
    }

    /// The same with a next step.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
}
