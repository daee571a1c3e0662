//! What goes into the core.

use std::sync::Arc;

use crate::model::duration::Millis;
use crate::model::env::EnvMap;
use crate::model::exit::Exit;
use crate::model::names::{AppId, RunId};
use crate::model::size::Bytes;
use crate::model::spec::AppSpec;
use crate::model::target::{ScaleTo, Target};

/// Names a request, so that its answer finds the way back. Never used twice within one daemon.
pub type Ticket = u64;

/// One thing that happened outside.
#[derive(Clone, Debug)]
pub enum Input {
    /// Somebody asked for something.
    Command(Ticket, Command),
    /// A [`super::Output::Commit`] is on disk, or could not be written.
    Committed(Result<(), String>),
    /// The `require` of an app was checked: fine, or what is missing.
    Checked(AppId, Result<(), String>),
    /// The keeper started the run.
    Spawned(RunId, i32),
    /// The keeper could not; step and reason for people.
    SpawnFailed(RunId, String),
    /// It could not, because the machine is out of processes, descriptors or memory: no fault of the app's. What is
    /// missing, for people.
    SpawnStarved(RunId, String),
    /// The run is ready by its own rule.
    Ready(RunId),
    /// The leader process of the run is gone. The last stderr lines of the run.
    Exited(RunId, Exit, Vec<String>),
    /// When the leader was gone, processes that it had started went on. They are being ended.
    LeftBehind(RunId),
    /// Nothing of the run's process tree is left.
    Swept(RunId),
    /// The `pre_stop` command of the run ended, however.
    PreStopped(RunId),
    /// Whether the run holds a listening socket that a second instance would collide with.
    Inspected(RunId, bool),
    /// Resident memory of the run's process tree.
    Memory(RunId, Bytes),
    /// The run answers its health probe (again).
    Healthy(RunId),
    /// The run, which was ready, does not work any more: its probe fails, its watchdog is silent, it accepts nothing.
    /// Why, for people.
    Unhealthy(RunId, String),
    /// The run asks to be replaced, or is to be, though nothing is wrong with it. Why, for people.
    Recycle(RunId, String),
    /// The run needs this much time from now on before what it is doing (starting, stopping) counts as failed.
    Extend(RunId, Millis),
    /// The run reloads its configuration and is not ready until [`Input::Ready`].
    Reloading(RunId),
    /// Somebody connects to an app that is started on demand.
    Demand(AppId),
    /// Nobody has been connected to an app that is started on demand for its `idle_timeout`.
    Idle(AppId),
    /// [`super::Core::poll_timeout`] has come.
    Tick,
}

/// What somebody asked for.
#[derive(Clone, Debug)]
pub enum Command {
    /// Make these apps known and running.
    Apply {
        /// The apps; names are unique.
        apps: Vec<AppSpec>,
        /// Replace the inherited environment of known apps, too.
        update_env: bool,
        /// Keep a failing generation.
        no_rollback: bool,
    },
    /// Start known apps or instances.
    Start {
        /// Which.
        targets: Vec<Target>,
        /// A new inherited environment.
        env: Option<Arc<EnvMap>>,
    },
    /// Stop apps or instances.
    Stop {
        /// Which.
        targets: Vec<Target>,
    },
    /// Stop and start.
    Restart {
        /// Which.
        targets: Vec<Target>,
        /// A new inherited environment.
        env: Option<Arc<EnvMap>>,
    },
    /// Replace the running generation.
    Reload {
        /// Which.
        targets: Vec<Target>,
        /// A new inherited environment.
        env: Option<Arc<EnvMap>>,
        /// Keep a failing generation.
        no_rollback: bool,
    },
    /// Stop apps and forget them.
    Delete {
        /// Which.
        targets: Vec<Target>,
    },
    /// Change the number of instances.
    Scale {
        /// Which.
        targets: Vec<Target>,
        /// How many.
        to: ScaleTo,
    },
    /// Zero the counters and close the circuits.
    Reset {
        /// Which.
        targets: Vec<Target>,
    },
    /// Stop everything that runs; what is wanted stays wanted. Every later command is refused.
    Shutdown,
}
