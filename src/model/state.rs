//! The states of instances and apps: one word each, the same everywhere.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What an instance, or an app as a whole, is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// For a dependency or a schedule.
    Waiting,
    /// Spawned, not ready yet.
    Starting,
    /// Ready.
    Online,
    /// Ready once, failing its health check now.
    Unhealthy,
    /// Being replaced by a newer generation.
    Reloading,
    /// Told to stop, not gone yet.
    Stopping,
    /// Not running, as the user wants it.
    Stopped,
    /// Died; the next start waits for its back-off.
    Backoff,
    /// The circuit is open, or the app cannot be started at all.
    Errored,
    /// Ended by itself, and is not to be restarted.
    Completed,
}

impl State {
    /// The word users see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Starting => "starting",
            Self::Online => "online",
            Self::Unhealthy => "unhealthy",
            Self::Reloading => "reloading",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Backoff => "backoff",
            Self::Errored => "errored",
            Self::Completed => "completed",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
