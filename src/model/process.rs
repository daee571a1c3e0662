//! Who a process is, beyond a pid that may be used again.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Identifies a process across time: the same pid with another start time or boot is another process.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct ProcessId {
    /// The kernel's number.
    pub pid: i32,
    /// Field 22 of `/proc/PID/stat`: clock ticks since boot when the process began. Zero if unknown.
    pub start_ticks: u64,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot: std::sync::Arc<str>,
}

/// What a process tree uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Usage {
    /// Resident memory of the instance and all its descendants, in bytes.
    pub memory: u64,
    /// Share of one CPU over the last sampling period, in percent; 250 means two and a half CPUs.
    pub cpu_percent: f32,
}
