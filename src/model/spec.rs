//! What an app is: the finished, absolute, fully expanded form of one `[[apps]]` entry.
//!
//! `config` makes it, the CLI sends it, the daemon stores it, `supervise` acts on it. Nothing in it
//! refers to a file's folder, an environment or a number of CPUs any more.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::balance::{Balance, ExecMode, OnDemand};
use crate::model::duration::Millis;
use crate::model::env::EnvMap;
use crate::model::event::EventKind;
use crate::model::health::{Health, MaxAge};
use crate::model::listen::ListenSpec;
use crate::model::logspec::LogSpec;
use crate::model::names::{AppName, Namespace};
use crate::model::ostext::OsText;
use crate::model::size::Bytes;

/// Most instances one app may have. More is taken for a typing mistake and refused.
pub const MAX_INSTANCES: u32 = 4096;

/// An app.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AppSpec {
    /// Unique among all apps of a home.
    pub name: AppName,
    /// Its group.
    #[serde(default)]
    pub namespace: Namespace,
    /// Program and arguments, exec form. A program without a slash is looked up in the app's `PATH`;
    /// one with a slash is relative to `cwd`.
    pub argv: Vec<OsText>,
    /// Absolute working folder.
    pub cwd: OsText,
    /// Instances declared. `scale` may have set another number since.
    pub instances: u32,
    /// The variable that tells an instance its slot.
    pub instance_var: String,
    /// A variable whose (numeric) value is increased by the slot.
    #[serde(default)]
    pub increment_var: Option<String>,
    /// The environment the file sets; wins over `env_base`.
    #[serde(default)]
    pub env: EnvMap,
    /// The environment inherited from the caller, frozen at `start`. Shared between apps.
    #[serde(default)]
    pub env_base: Arc<EnvMap>,
    /// What must be there before anything is spawned.
    #[serde(default)]
    pub require: Require,
    /// Sockets that the manager binds and every instance inherits, from descriptor 3 on.
    #[serde(default)]
    pub listen: Vec<ListenSpec>,
    /// How its processes are made.
    #[serde(default)]
    pub exec_mode: ExecMode,
    /// How connections are spread; `None`: [`Balance::Even`], which is one queue as long as there is one instance.
    #[serde(default)]
    pub balance: Option<Balance>,
    /// Every instance gets an IPC channel (`NODE_CHANNEL_FD`), whatever else it is for.
    #[serde(default)]
    pub ipc: bool,
    /// Started by the first connection to one of its sockets.
    #[serde(default)]
    pub on_demand: Option<OnDemand>,
    /// When to start again.
    pub restart: RestartSpec,
    /// When an instance counts as ready.
    #[serde(default)]
    pub ready: Ready,
    /// How long readiness may take.
    pub listen_timeout: Millis,
    /// Running out of `listen_timeout` counts as ready instead of failed.
    #[serde(default)]
    pub ready_on_timeout: bool,
    /// A liveness probe of ready instances.
    #[serde(default)]
    pub health: Option<Health>,
    /// An instance that is ready says `WATCHDOG=1` to `NOTIFY_SOCKET` at least this often.
    #[serde(default)]
    pub watchdog: Option<Millis>,
    /// An instance that leaves connections waiting this long and accepts none is hung.
    #[serde(default)]
    pub hang_timeout: Option<Millis>,
    /// Instances that are older are replaced, one at a time.
    #[serde(default)]
    pub max_age: Option<MaxAge>,
    /// A Node worker that has answered about this many HTTP requests is replaced.
    #[serde(default)]
    pub max_requests: Option<u32>,
    /// Descriptors that one instance may leave with the manager (`FDSTORE=1`) for the next one in its slot.
    #[serde(default)]
    pub fd_store: u32,
    /// Node workers get the preload that closes keep-alive connections without losing a request.
    #[serde(default = "yes")]
    pub preload: bool,
    /// How to stop.
    pub stop: StopSpec,
    /// How to replace one generation by the next.
    pub rollout: RolloutSpec,
    /// Replace an instance whose process tree holds more resident memory than this.
    #[serde(default)]
    pub max_memory_restart: Option<Bytes>,
    /// Where output goes.
    #[serde(default)]
    pub logs: LogSpec,
    /// Commands run when something happens. They get the event as JSON on stdin and as `CLMGR_EVENT`,
    /// `CLMGR_APP`, `CLMGR_NAMESPACE`, `CLMGR_SLOT`, `CLMGR_MESSAGE`, and run in `cwd`.
    #[serde(default)]
    pub on_event: BTreeMap<EventKind, Vec<OsText>>,
    /// The file it came from.
    #[serde(default)]
    pub source: Option<OsText>,
}

const fn yes() -> bool {
    true
}

impl AppSpec {
    /// An app of which nothing else was said. One instance, an empty environment, defaults for the rest.
    #[must_use]
    pub fn new(name: AppName, argv: Vec<OsText>, cwd: OsText) -> Self {
        Self {
            name,
            namespace: Namespace::default(),
            argv,
            cwd,
            instances: 1,
            instance_var: "NODE_APP_INSTANCE".to_owned(),
            increment_var: None,
            env: EnvMap::new(),
            env_base: Arc::default(),
            require: Require::default(),
            listen: Vec::new(),
            exec_mode: ExecMode::default(),
            balance: None,
            ipc: false,
            on_demand: None,
            restart: RestartSpec::default(),
            ready: Ready::default(),
            listen_timeout: Millis::from_secs(30),
            ready_on_timeout: false,
            health: None,
            watchdog: None,
            hang_timeout: None,
            max_age: None,
            max_requests: None,
            fd_store: 0,
            preload: true,
            stop: StopSpec::default(),
            rollout: RolloutSpec::default(),
            max_memory_restart: None,
            logs: LogSpec::default(),
            on_event: BTreeMap::new(),
            source: None,
        }
    }

    /// The environment of one instance: inherited, then the file's, then the instance's own variables.
    #[must_use]
    pub fn environment(&self, slot: u32) -> EnvMap {
        let mut env = EnvMap::clone(&self.env_base);
        env.extend(self.env.iter().map(|(name, value)| (name.clone(), value.clone())));
        if let Some(name) = &self.increment_var {
            let base = env
                .get(name)
                .and_then(|value| value.to_text().trim().parse::<i64>().ok())
                .unwrap_or(0);
            env.insert(name.clone(), (base + i64::from(slot)).to_string().into());
        }
        env.insert(self.instance_var.clone(), slot.to_string().into());
        env.insert("CLMGR_APP".into(), self.name.as_str().into());
        env.insert("CLMGR_SLOT".into(), slot.to_string().into());
        env
    }

    /// What may be the matter when readiness takes too long, for people; empty if nothing is known.
    #[must_use]
    pub const fn unready_hint(&self) -> &'static str {
        match (self.exec_mode, &self.ready) {
            (ExecMode::Cluster, Ready::Listen) => {
                ": it has not called listen; for workers that never do, write `ready = \"spawn\"`"
            }
            (ExecMode::Cluster | ExecMode::Fork, _) => "",
        }
    }

    /// The value a variable will have, whichever part it comes from.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&OsText> {
        self.env.get(name).or_else(|| self.env_base.get(name))
    }
}

/// Checked before any spawn.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Require {
    /// Variables that must be set and not empty.
    #[serde(default)]
    pub env: Vec<String>,
    /// Absolute paths that must exist.
    #[serde(default)]
    pub files: Vec<OsText>,
    /// `host:port` that must accept a connection within 2 s.
    #[serde(default)]
    pub tcp: Vec<String>,
}

impl Require {
    /// Nothing is required.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.env.is_empty() && self.files.is_empty() && self.tcp.is_empty()
    }
}

/// Which exits lead to a new start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RestartMode {
    /// Every one.
    #[default]
    Always,
    /// All but exit code 0 and `stop_exit_codes`.
    OnFailure,
    /// None.
    Never,
}

/// The restart law's numbers. See `supervise::policy`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RestartSpec {
    /// Which exits lead to a new start.
    pub mode: RestartMode,
    /// Exit codes that mean "done, do not restart" in every mode.
    #[serde(default)]
    pub stop_exit_codes: Vec<i32>,
    /// A life shorter than this is unstable.
    pub min_uptime: Millis,
    /// Wait before the first restart after a stable life.
    pub delay: Millis,
    /// Waits after unstable lives.
    pub backoff: Backoff,
    /// Unstable exits of one instance inside `window` that open its circuit.
    pub max_restarts: u32,
    /// The sliding window.
    pub window: Millis,
    /// How long an open circuit stays open; `None` until somebody acts.
    pub cooldown: Option<Millis>,
    /// Each failed probe doubles the cooldown up to this.
    pub cooldown_max: Millis,
}

impl Default for RestartSpec {
    fn default() -> Self {
        Self {
            mode: RestartMode::Always,
            stop_exit_codes: Vec::new(),
            min_uptime: Millis::from_secs(1),
            delay: Millis::ZERO,
            backoff: Backoff::default(),
            max_restarts: 5,
            window: Millis::from_secs(30),
            cooldown: Some(Millis::from_secs(60)),
            cooldown_max: Millis::from_secs(600),
        }
    }
}

/// The k-th unstable exit in a row waits `first × factor^(k−1)`, at most `max`, ± `jitter`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Backoff {
    /// First wait.
    pub first: Millis,
    /// Growth, at least 1.
    pub factor: f64,
    /// Longest wait.
    pub max: Millis,
    /// Share of the wait by which it varies either way, 0 to 1.
    pub jitter: f64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            first: Millis::from_secs(1),
            factor: 2.0,
            max: Millis::from_secs(30),
            jitter: 0.1,
        }
    }
}

/// When an instance counts as ready.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ready {
    /// As soon as its program is executing.
    #[default]
    Spawn,
    /// When a process of it holds a listening TCP or Unix socket.
    Listen,
    /// When it sends `"ready"` over its IPC channel (`process.send('ready')`).
    Ipc,
    /// When it sends `READY=1` to `NOTIFY_SOCKET`.
    Notify,
    /// When it writes a byte to, or closes, this descriptor.
    Fd(i32),
    /// When a GET of this URL answers 2xx or 3xx. `{port}` stands for the instance's `PORT`.
    Http(String),
    /// When this `host:port` accepts a connection.
    Tcp(String),
    /// When this command, run in the app's folder and environment, exits 0.
    Exec(Vec<OsText>),
    /// When a line of its output matches this regular expression.
    Log(String),
}

/// How an instance is stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StopSpec {
    /// Sent first, to the process group.
    pub signal: i32,
    /// After this, SIGKILL to the whole tree.
    pub kill_timeout: Millis,
    /// Signal and kill the whole tree rather than the one process.
    pub treekill: bool,
    /// Send `"shutdown"` over the IPC channel instead of the signal.
    #[serde(default)]
    pub message: bool,
    /// Run before the signal, in the app's folder and environment; bounded by `kill_timeout`.
    #[serde(default)]
    pub pre_stop: Vec<OsText>,
}

impl Default for StopSpec {
    fn default() -> Self {
        Self {
            signal: 15,
            kill_timeout: Millis::from_secs(10),
            treekill: true,
            message: false,
            pre_stop: Vec::new(),
        }
    }
}

/// Whether the new instance is started before or after the old one is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// New first. Needs instances that do not collide.
    StartFirst,
    /// Old first.
    StopFirst,
}

/// How one generation replaces the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RolloutSpec {
    /// `None`: start-first, unless the running instance holds a listening socket that the new one would
    /// want too.
    #[serde(default)]
    pub order: Option<Order>,
    /// Instances replaced at a time.
    pub parallel: u32,
    /// So many are replaced first and watched for `min_healthy` in service before the others follow; 0: no pause.
    #[serde(default)]
    pub canary: u32,
    /// A new instance must stay ready this long to count.
    pub min_healthy: Millis,
    /// The whole rollout must be done by then.
    pub deadline: Millis,
    /// Restore the old generation when the new one fails.
    pub rollback: bool,
}

impl Default for RolloutSpec {
    fn default() -> Self {
        Self {
            order: None,
            parallel: 1,
            canary: 0,
            min_healthy: Millis::from_secs(2),
            deadline: Millis::from_secs(300),
            rollback: true,
        }
    }
}
