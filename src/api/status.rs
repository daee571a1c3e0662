//! What is going on.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::balance::Balance;
use crate::model::custom::{Action, Metric};
use crate::model::env::EnvMap;
use crate::model::event::Event;
use crate::model::exit::Exit;
use crate::model::health::Vitality;
use crate::model::names::{AppId, AppName, Namespace, Slot};
use crate::model::progress::Progress;
use crate::model::spec::AppSpec;
use crate::model::state::State;
use crate::model::time::WallTime;

/// `GET /v1/ping`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ping {
    /// The daemon's version.
    pub version: String,
    /// The daemon's process.
    pub pid: i32,
    /// The keeper's process.
    pub keeper_pid: i32,
    /// The keeper's version; empty from a daemon that does not tell.
    #[serde(default)]
    pub keeper_version: String,
    /// How long this daemon has lived.
    pub uptime_ms: u64,
    /// The state folder.
    pub home: String,
}

/// `GET /v1/status[?target=…]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StatusReply {
    /// By id.
    pub apps: Vec<AppStatus>,
}

/// One app.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AppStatus {
    /// Its number.
    pub id: AppId,
    /// Its name.
    pub name: AppName,
    /// Its group.
    pub namespace: Namespace,
    /// The most pressing state of its instances.
    pub state: State,
    /// Instances wanted.
    pub desired: u32,
    /// Sockets that it listens on and clmgr owns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub listeners: Vec<ListenerStatus>,
    /// By slot.
    pub instances: Vec<InstanceStatus>,
    /// How far a replacement of its instances is, while there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
}

/// One listening socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListenerStatus {
    /// As in `listen`: `0.0.0.0:3000`, `udp:0.0.0.0:53`, `unix:/run/api.sock`, `unix:@name`.
    pub address: String,
    /// Its port, also where the kernel chose it; none for Unix sockets and while it is not bound.
    pub port: Option<u16>,
    /// Its name in `LISTEN_FDNAMES`.
    pub name: String,
    /// It is bound; false while the app is stopped.
    pub bound: bool,
    /// Connections that wait to be accepted, for TCP. Only in `describe`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queued: Option<u32>,
    /// How connections are spread now, where every instance has a queue of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub balance: Option<Balance>,
    /// How they were to be spread, if that is not possible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted_balance: Option<Balance>,
    /// Why it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub balance_reason: Option<String>,
    /// The queues of the instances, where each has its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slots: Vec<QueueStatus>,
}

/// The queue of one instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QueueStatus {
    /// Whose.
    pub slot: Slot,
    /// Connections that wait in it, for TCP. Only in `describe`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queued: Option<u32>,
    /// It is given new connections.
    pub in_rotation: bool,
}

/// One instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InstanceStatus {
    /// Its number.
    pub slot: Slot,
    /// Its process, while it runs.
    pub pid: Option<i32>,
    /// What it is doing.
    pub state: State,
    /// Starts after the first that nobody asked for, since the last `reset`.
    pub restarts: u32,
    /// Since its program began; none while it does not run.
    pub uptime_ms: Option<u64>,
    /// Of one CPU, the whole tree; none until it was sampled twice.
    pub cpu_percent: Option<f32>,
    /// Resident, the whole tree; none until it was sampled.
    pub memory_bytes: Option<u64>,
    /// Until the next start, in `backoff` and `errored`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_start_ms: Option<u64>,
    /// How the last run ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<Exit>,
    /// What it tells of itself: `STATUS=` of `sd_notify(3)`; after a bad end, its last words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_text: Option<String>,
    /// Descriptors that it, or one before it, has left with clmgr (`FDSTORE=1`).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub stored_descriptors: u32,
    /// Whether it goes on to work, where that is watched. Only in `describe`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthStatus>,
}

/// What is known of a ready instance by `health`, `watchdog` and `hang_timeout`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HealthStatus {
    /// How it does.
    pub state: Vitality,
    /// When the last question was over, or the last heartbeat came.
    pub answered: Option<WallTime>,
    /// Failed questions in a row.
    pub failures: u32,
    /// What is wrong, or was at the last question.
    pub reason: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// `GET /v1/describe?target=…`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DescribeReply {
    /// By id.
    pub apps: Vec<AppDescription>,
}

/// Everything about one app.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AppDescription {
    /// As in `status`.
    pub status: AppStatus,
    /// What it is. Environment values are masked.
    pub spec: AppSpec,
    /// Why it is `errored` or in `backoff`, in one sentence.
    pub reason: Option<String>,
    /// Its newest crashes, newest first.
    pub crashes: Vec<Crash>,
    /// Its newest events, newest first.
    pub events: Vec<Event>,
    /// Its log files.
    pub logs: Vec<crate::api::logs::LogSource>,
    /// When it became known.
    pub created: Option<WallTime>,
    /// Figures that its instances tell of themselves, over their IPC channels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<InstanceMetrics>,
    /// Actions that `trigger` can ask them for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<Action>,
}

/// The figures of one instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InstanceMetrics {
    /// Its number.
    pub slot: Slot,
    /// As they were last told.
    pub metrics: Vec<Metric>,
}

/// The record of an unstable exit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Crash {
    /// When.
    pub at: WallTime,
    /// Which instance.
    pub slot: Slot,
    /// Its process.
    pub pid: i32,
    /// How it ended.
    pub exit: Exit,
    /// How long it lived.
    pub uptime_ms: u64,
    /// The last lines of its standard error.
    pub stderr: Vec<String>,
}

/// `GET /v1/env?target=…[&reveal=true]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EnvReply {
    /// Which app.
    pub app: AppName,
    /// Which instance.
    pub slot: Slot,
    /// Its environment; values are masked unless `reveal` was asked for.
    pub env: EnvMap,
}
