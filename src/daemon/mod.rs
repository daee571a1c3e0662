//! The daemon: wiring only. One loop gathers inputs (requests, exits, readiness, samples, timers), hands each to
//! the pure core with the time, and performs what the core says.
//!
//! ```text
//!   control socket ─▶ http ─┐                      ┌─▶ keeper link (spawn, release)
//!   keeper link ────────────┤                      ├─▶ pidfds (signals)
//!   logs thread ────────────┼─▶ loop ─▶ core ─▶ ───┼─▶ store thread (commits, notes)
//!   store thread ───────────┤   ▲    outputs       ├─▶ logs thread (attach, drain)
//!   probes, sweeps (tasks) ─┘   └── timers         └─▶ replies
//! ```
//!
//! It may die at any moment: the keeper holds every process and descriptor, the store every decision. See
//! `recover` for how the next one goes on.

mod alerts;
mod channel;
mod cluster;
mod custom;
mod daemon_loop;
mod demand;
mod doors;
mod fdstore;
mod former;
mod handshake;
mod health;
mod hello;
mod helper;
mod http;
mod hub;
mod keeper_side;
mod listeners;
mod log_files;
mod mail;
mod notify;
mod perform;
mod ready;
mod recover;
mod replace;
mod requests;
mod require;
mod runs;
mod runtime;
mod salvage;
mod sampling;
mod service;
mod sinks;
mod spawning;
mod start;
mod status;
mod stopping;
mod survivors;
mod text;
mod trial;
mod trigger;
mod upgrade;
mod voice;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;

use crate::keeper::link::Link;
use crate::logs::pump::Pump;
use crate::model::event::Event;
use crate::model::names::{AppId, RunId};
use crate::model::outcome::{ErrorBody, InstanceResult};
use crate::model::spec::AppSpec;
use crate::model::time::{Moment, WallTime};
use crate::os::home::Home;
use crate::store::Store;
use crate::supervise::{Core, Input, Ticket};

use doors::Doors;
use health::Monitors;
use helper::Helper;
use hub::Hub;
use listeners::Listeners;
use mail::Mail;
use runs::Handle;
use runtime::Runtime;
use sampling::Sampling;
use upgrade::Upgrades;

pub use handshake::handshake;
pub use start::{DaemonError, log_to_stderr, run};

/// The answer to a command.
pub(crate) type Answer = Result<Vec<InstanceResult>, Box<ErrorBody>>;

/// Everything the loop owns.
#[derive(Debug)]
pub(crate) struct Daemon {
    pub(crate) core: Core,
    pub(crate) home: Home,
    /// Marks processes of this home.
    pub(crate) home_tag: String,
    pub(crate) boot: Arc<str>,
    pub(crate) began: Moment,
    pub(crate) mail: Mail,
    pub(crate) keeper: AsyncFd<Link>,
    pub(crate) keeper_pid: i32,
    /// When the keeper began, in clock ticks since boot: what is older lived under another keeper, whose orphans
    /// are not this one's children.
    pub(crate) keeper_born: u64,
    /// Highest exit not acknowledged yet.
    pub(crate) unacked: Option<u64>,
    pub(crate) acking: bool,
    pub(crate) handles: BTreeMap<RunId, Handle>,
    /// Runs that the keeper was asked for and has not answered about: their descriptors are still to come.
    pub(crate) ordered: BTreeSet<RunId>,
    /// Runs whose end is known to the core while their last words are still being written.
    pub(crate) draining: BTreeSet<RunId>,
    /// Events that are told when those are written.
    pub(crate) held_back: Vec<(AppId, Event)>,
    pub(crate) helpers: BTreeMap<RunId, Helper>,
    pub(crate) next_helper: u64,
    pub(crate) listeners: Listeners,
    pub(crate) monitors: Monitors,
    pub(crate) workers: cluster::Workers,
    pub(crate) notify: notify::Notify,
    pub(crate) ready_pipes: BTreeMap<RunId, Arc<OwnedFd>>,
    pub(crate) doors: Doors,
    pub(crate) told_logs: BTreeMap<AppId, log_files::Told>,
    pub(crate) pump: Pump,
    pub(crate) store: Store,
    pub(crate) hub: Hub,
    pub(crate) samples: BTreeMap<RunId, crate::os::usage::Sample>,
    pub(crate) sampling: Sampling,
    pub(crate) replies: BTreeMap<Ticket, oneshot::Sender<Answer>>,
    pub(crate) next_ticket: Ticket,
    pub(crate) created: BTreeMap<AppId, WallTime>,
    /// What it does besides under `clmgr runtime`.
    pub(crate) runtime: Option<Runtime>,
    pub(crate) upgrades: Upgrades,
    /// Set when everything has stopped and the loop is to end.
    pub(crate) leaving: bool,
    /// The keeper leaves without the apps: nothing is started any more, and the loop ends when everything that was
    /// ordered has been heard of.
    pub(crate) detaching: bool,
    /// What the service manager was told, if there is one.
    pub(crate) service: Option<service::Service>,
    /// Set when the state, of which this daemon has only a copy, can be written again.
    pub(crate) writable: bool,
}

impl Daemon {
    /// Hands an input to the core now.
    pub(crate) fn input(&mut self, input: Input) {
        self.core.handle(crate::os::clock::monotonic(), input);
    }

    /// The spec a run was started from.
    pub(crate) fn spec_of(&self, run: RunId) -> Option<Arc<AppSpec>> {
        let app = self.core.owner(run)?;
        let record = app.runs.get(&run)?;
        Some(Arc::clone(app.spec_of(record)))
    }
}
