//! What happened, as it is recorded, streamed and alerted on.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::exit::Exit;
use crate::model::names::{AppName, Namespace, Slot};
use crate::model::time::WallTime;

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $text:literal,)*) => {
        /// The kinds of event. The text is the name used in `on_event`, `clmgr events --kind` and JSON.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum EventKind {
            $($(#[$doc])* $variant,)*
        }
        impl EventKind {
            /// Every kind, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

kinds! {
    /// An app is known for the first time.
    AppAdded = "app_added",
    /// An app's spec was replaced.
    AppChanged = "app_changed",
    /// An app was removed.
    AppDeleted = "app_deleted",
    /// A process was spawned.
    Started = "started",
    /// A process could not be spawned.
    SpawnFailed = "spawn_failed",
    /// An instance became ready.
    Online = "online",
    /// An instance did not become ready in time.
    ReadyTimeout = "ready_timeout",
    /// A process ended.
    Exited = "exited",
    /// An instance waits before its next start.
    Backoff = "backoff",
    /// A circuit opened: nothing of it is started until the cooldown is over or somebody acts.
    CircuitOpen = "circuit_open",
    /// One probe is tried on an open circuit.
    CircuitProbe = "circuit_probe",
    /// A circuit closed.
    CircuitClosed = "circuit_closed",
    /// An instance was told to stop.
    Stopping = "stopping",
    /// An instance is stopped.
    Stopped = "stopped",
    /// `kill_timeout` ran out and SIGKILL was sent.
    Killed = "killed",
    /// An instance ended by itself and is not restarted.
    Completed = "completed",
    /// A rollout began.
    ReloadStarted = "reload_started",
    /// A rollout ended well.
    ReloadDone = "reload_done",
    /// A rollout failed and the old generation was restored.
    ReloadRolledBack = "reload_rolled_back",
    /// A rollout failed and the new generation was kept, as asked.
    ReloadFailed = "reload_failed",
    /// The number of instances changed.
    Scaled = "scaled",
    /// An instance passed `max_memory_restart`.
    MemoryLimit = "memory_limit",
    /// An instance that was ready does not work any more.
    Unhealthy = "unhealthy",
    /// An instance that did not work works again.
    Healthy = "healthy",
    /// An instance is replaced though nothing is wrong with it: for its age, or because it asked.
    Recycled = "recycled",
    /// Log lines could not be written.
    LogLost = "log_lost",
    /// Log lines can be written again.
    LogResumed = "log_resumed",
    /// Rotated log files were removed because too little of the disk was free.
    LogRemoved = "log_removed",
    /// The state could not be written.
    StateLost = "state_lost",
    /// The state can be written again.
    StateResumed = "state_resumed",
    /// A daemon took up its work.
    DaemonStarted = "daemon_started",
    /// A worker of a Node cluster asked for a listening socket that it cannot have.
    ListenFailed = "listen_failed",
    /// A listening socket could not be recovered.
    ListenerLost = "listener_lost",
    /// The keeper died and was replaced.
    KeeperReplaced = "keeper_replaced",
    /// Another build of clmgr took over.
    Upgraded = "upgraded",
    /// Another build of clmgr was to take over and could not; nothing has changed.
    UpgradeFailed = "upgrade_failed",
    /// A survivor of an earlier daemon or keeper was taken over.
    Adopted = "adopted",
    /// A connection of another user was refused.
    AccessRefused = "access_refused",
    /// An instance said something of itself that is worth recording: it stops, reloads, is another process now; or it
    /// asked for something that it does not get.
    Notified = "notified",
    /// An alert command failed.
    AlertFailed = "alert_failed",
    /// An app told of an error over its IPC channel; `stderr` has the stack.
    AppException = "app_exception",
    /// An app told of something over its IPC channel.
    AppEvent = "app_event",
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for EventKind {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .iter()
            .find(|kind| kind.as_str() == text)
            .copied()
            .ok_or_else(|| format!("{text:?} is not a kind of event"))
    }
}

/// One event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// Position in the log; grows by at least 1, never repeats. Zero before it was recorded.
    #[serde(default)]
    pub seq: u64,
    /// When.
    pub at: WallTime,
    /// What.
    pub kind: EventKind,
    /// Whose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<AppName>,
    /// The app's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Namespace>,
    /// Which instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<Slot>,
    /// Its process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// One line for people, without the app's name.
    pub message: String,
    /// How the process ended, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<Exit>,
    /// The app's own last stderr lines, where they explain the event: at most 100, and 16 KiB. The record of the crash
    /// has up to 64 KiB.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stderr: Vec<String>,
}
