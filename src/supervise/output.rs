//! What comes out of the core.

use std::sync::Arc;

use crate::model::duration::Millis;
use crate::model::event::EventKind;
use crate::model::exit::Exit;
use crate::model::names::{AppId, AppName, Namespace, RunId, Slot};
use crate::model::outcome::{ErrorBody, InstanceResult};
use crate::model::spec::AppSpec;
use crate::model::time::Moment;
use crate::supervise::input::Ticket;

/// One thing to be done outside. Outputs are performed in order.
#[derive(Clone, Debug)]
pub enum Output {
    /// Write these changes of what is wanted durably, then hand in `Committed`. One at a time.
    Commit(Vec<Change>),
    /// Check the app's `require`, then hand in `Checked`.
    Check(AppId, Arc<AppSpec>),
    /// Start a process; `Spawned` or `SpawnFailed` follows. One that [`super::Core::is_revoked`] by the time
    /// it is performed is not started; after [`super::Core::resume`], one that the keeper knows already is not
    /// started again, but `Spawned` is handed in (and `Exited`, if it is gone).
    Spawn {
        /// Its run.
        run: RunId,
        /// Its app.
        app: AppId,
        /// Its slot.
        slot: Slot,
        /// What to start.
        spec: Arc<AppSpec>,
    },
    /// Watch for readiness by the run's rule; hand in `Ready` once.
    Probe(RunId),
    /// Stop watching.
    EndProbe(RunId),
    /// The run is ready: begin to watch that it goes on to work, by its `health`, `watchdog` and `hang_timeout`; hand
    /// in `Unhealthy`, and `Healthy` when it works again.
    Monitor(RunId),
    /// Stop that.
    EndMonitor(RunId),
    /// Run the app's `pre_stop` for this run, then hand in `PreStopped`.
    PreStop(RunId),
    /// Ask the run to stop, by its signal or its message.
    Stop(RunId),
    /// SIGKILL the whole process tree of the run, again and again until it is empty.
    Kill(RunId),
    /// The leader is gone: give what is left of its tree until then, kill the rest, hand in `Swept`.
    Sweep(RunId, Moment),
    /// Look whether the run holds a listening socket, hand in `Inspected`.
    Inspect(RunId),
    /// Every trace of the run may be released: pipes, pidfd, records.
    Release(RunId),
    /// Something to record, to stream, to alert on.
    Event(Box<EventDraft>),
    /// Keep the record of a crash.
    Crash(Box<CrashDraft>),
    /// The answer to a request.
    Reply(Ticket, Result<Vec<InstanceResult>, Box<ErrorBody>>),
}

/// A change of what is wanted.
#[derive(Clone, Debug)]
pub enum Change {
    /// This app is wanted like this.
    Put {
        /// Its number.
        id: AppId,
        /// What it is.
        spec: Arc<AppSpec>,
        /// How many.
        desired: u32,
        /// Running or stopped.
        wanted: bool,
        /// Instances the user stopped one by one.
        held: Vec<Slot>,
    },
    /// As `Put`, the spec unchanged.
    Want {
        /// Its number.
        id: AppId,
        /// How many.
        desired: u32,
        /// Running or stopped.
        wanted: bool,
        /// Instances the user stopped one by one.
        held: Vec<Slot>,
    },
    /// Forget it.
    Delete(AppId),
}

/// An event without time and number, which the edge adds.
#[derive(Clone, Debug)]
pub struct EventDraft {
    /// What.
    pub kind: EventKind,
    /// Whose.
    pub id: AppId,
    /// Its name.
    pub app: AppName,
    /// Its namespace.
    pub namespace: Namespace,
    /// Which instance.
    pub slot: Option<Slot>,
    /// Its process.
    pub pid: Option<i32>,
    /// For people.
    pub message: String,
    /// How it ended.
    pub exit: Option<Exit>,
    /// The app's own words.
    pub stderr: Vec<String>,
}

/// The record of an unstable exit, without its time.
#[derive(Clone, Debug)]
pub struct CrashDraft {
    /// Whose.
    pub app: AppId,
    /// Which instance.
    pub slot: Slot,
    /// Its process.
    pub pid: i32,
    /// How it ended.
    pub exit: Exit,
    /// How long it lived.
    pub uptime: Millis,
    /// The last lines of its standard error.
    pub stderr: Vec<String>,
}
