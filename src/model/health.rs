//! How it is seen that an instance which was ready still works.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::duration::Millis;
use crate::model::ostext::OsText;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    /// A GET of this URL answers 2xx or 3xx. `{port}` stands for the instance's `PORT`.
    Http(String),
    /// This `host:port` accepts a connection.
    Tcp(String),
    /// The Unix socket of this absolute path accepts a connection.
    Unix(OsText),
    /// This command, run in the app's folder and environment, exits 0.
    Exec(Vec<OsText>),
}

/// A liveness probe, asked again and again of every ready instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Health {
    /// What is asked.
    pub probe: Probe,
    /// From the end of one question to the next.
    pub interval: Millis,
    /// How long an answer may take.
    pub timeout: Millis,
    /// Failures in a row that make it unhealthy.
    pub retries: u32,
    /// Failures that soon after the instance became ready do not count, until the first success.
    pub start_period: Millis,
}

/// Replacing instances that are old, though nothing is wrong with them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MaxAge {
    /// Lived this long since it was ready.
    pub after: Millis,
    /// Share of it by which it varies, earlier only, 0 to 1: instances started together are not replaced together.
    pub jitter: f64,
}

/// How an instance does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Vitality {
    /// It is ready, and has not answered its probe yet.
    Starting,
    /// Nothing is known against it.
    Healthy,
    /// It does not work any more.
    Unhealthy,
}

impl Vitality {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}
