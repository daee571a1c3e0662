//! How an app's instances share its sockets, and when there are any.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::duration::Millis;

/// How an app's processes are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ExecMode {
    /// Programs that know nothing of each other.
    #[default]
    Fork,
    /// Workers of a Node cluster whose primary is the manager.
    Cluster,
}

/// How connections are spread over the instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Balance {
    /// One queue; whoever accepts first has the connection.
    Shared,
    /// One queue per slot, chosen by a hash of both addresses and ports.
    Even,
    /// One queue per slot, chosen at random.
    Random,
    /// One queue per slot, chosen by a hash of the client's address.
    Sticky,
    /// One queue per slot, in turn. Needs the right to load an eBPF program; else the nearest thing is done.
    RoundRobin,
}

impl Balance {
    /// As users write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Even => "even",
            Self::Random => "random",
            Self::Sticky => "sticky",
            Self::RoundRobin => "round-robin",
        }
    }

    /// Every instance has a queue of its own.
    #[must_use]
    pub const fn has_slots(self) -> bool {
        match self {
            Self::Shared => false,
            Self::Even | Self::Random | Self::Sticky | Self::RoundRobin => true,
        }
    }
}

impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Nothing runs before the first connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OnDemand {
    /// Stopped again after no connection was open for this long; `None`: never.
    pub idle_timeout: Option<Millis>,
}
