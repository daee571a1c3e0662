//! How far a replacement of an app's instances is.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::duration::Millis;
use crate::model::names::Slot;

/// What a rollout waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "step")]
pub enum Waiting {
    /// The `require` is being checked.
    Checking,
    /// The running instance is being looked at, to choose the order.
    Inspecting,
    /// The old instance of this slot has to be gone first.
    Stopping {
        /// Which instance.
        slot: Slot,
    },
    /// The new instance of this slot has to become ready.
    Starting {
        /// Which instance.
        slot: Slot,
    },
    /// The new instance of this slot is ready and has to stay so.
    Proving {
        /// Which instance.
        slot: Slot,
        /// For how long still, in milliseconds; none while that is not known.
        left_ms: Option<u64>,
    },
    /// The new instance of this slot is in service, the old one finishes its work.
    Retiring {
        /// Which instance.
        slot: Slot,
    },
    /// The first instances are in service and watched before the others follow.
    Canary {
        /// For how long still, in milliseconds.
        left_ms: u64,
    },
    /// The new spec is being written.
    Writing,
}

/// How far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Progress {
    /// Instances that are done.
    pub done: u32,
    /// Instances in all.
    pub total: u32,
    /// It has failed, and goes back.
    pub rolling_back: bool,
    /// Why it has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// What is waited for.
    pub waiting: Vec<Waiting>,
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checking => f.write_str("checking what it requires"),
            Self::Inspecting => f.write_str("looking at what runs"),
            Self::Stopping { slot } => write!(f, "{slot} stopping first"),
            Self::Starting { slot } => write!(f, "{slot} starting"),
            Self::Proving {
                slot,
                left_ms: Some(left),
            } => write!(f, "{slot} watched for {}", Millis(*left)),
            Self::Proving { slot, left_ms: None } => write!(f, "{slot} watched"),
            Self::Retiring { slot } => write!(f, "{slot} replaced, the old one finishes"),
            Self::Canary { left_ms } => write!(f, "canary watched for {}", Millis(*left_ms)),
            Self::Writing => f.write_str("writing the new spec"),
        }
    }
}
