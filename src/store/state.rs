//! What goes in and what comes out.

use std::sync::Arc;

use crate::api::status::Crash;
use crate::model::event::Event;
use crate::model::names::{AppId, RunId, Slot};
use crate::model::process::ProcessId;
use crate::model::spec::AppSpec;
use crate::model::time::WallTime;

/// An app as it is wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct AppRow {
    /// Its number.
    pub id: AppId,
    /// What it is.
    pub spec: Arc<AppSpec>,
    /// Instances wanted.
    pub desired: u32,
    /// It is to run; otherwise it is to be stopped.
    pub wanted: bool,
    /// Slots that are to stay stopped while the others run.
    pub held: Vec<Slot>,
    /// When it became known.
    pub created_at: WallTime,
}

/// A process that was alive when it was last heard of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunRow {
    /// Its number.
    pub run: RunId,
    /// Whose. The app may be gone.
    pub app: AppId,
    /// Which instance.
    pub slot: Slot,
    /// Which process.
    pub process: ProcessId,
    /// When it began.
    pub started_at: WallTime,
}

/// What the supervisor remembers of an app, in its own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeRow {
    /// Whose.
    pub app: AppId,
    /// The boot its moments belong to.
    pub boot: Arc<str>,
    /// Opaque.
    pub json: String,
}

/// One app's entry of [`Change::SetDesired`].
pub type Desired = (AppId, u32, bool, Vec<Slot>);

/// A part of the desired state that is to be made durable.
#[derive(Clone, Debug)]
pub enum Change {
    /// Add these, or replace those with the same id.
    PutApps(Vec<AppRow>),
    /// Forget these and everything about them; unknown ids are no error.
    DeleteApps(Vec<AppId>),
    /// Instances wanted, whether the app is to run, and slots that are to stay stopped all the same.
    SetDesired(Vec<Desired>),
}

impl Change {
    /// It lets something go: a stop or a delete. That must be possible when nothing else is.
    #[must_use]
    pub fn takes_away(&self) -> bool {
        match self {
            Self::PutApps(_) => false,
            Self::DeleteApps(_) => true,
            Self::SetDesired(apps) => apps.iter().all(|(_, _, wanted, held)| !wanted || !held.is_empty()),
        }
    }
}

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Note {
    /// Replaces what was remembered of the app.
    Runtime(RuntimeRow),
    /// A process lives.
    RunStarted(RunRow),
    /// It does not any more.
    RunEnded {
        /// Which one.
        run: RunId,
    },
    /// Written with the sequence number it has.
    Event(Box<Event>),
    /// An unstable exit.
    Crash {
        /// Whose.
        app: AppId,
        /// The record.
        crash: Box<Crash>,
    },
}

impl Note {
    /// The event it is, if it is one.
    #[must_use]
    pub fn event(&self) -> Option<&Event> {
        match self {
            Self::Event(event) => Some(event),
            Self::Runtime(_) | Self::RunStarted(_) | Self::RunEnded { .. } | Self::Crash { .. } => None,
        }
    }
}

/// Everything a new daemon needs to go on.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadedState {
    /// By id. Apps with equal inherited environments share one in memory.
    pub apps: Vec<AppRow>,
    /// By app.
    pub runtime: Vec<RuntimeRow>,
    /// By run; those of earlier boots are in it, too.
    pub runs: Vec<RunRow>,
    /// The first number no app ever had.
    pub next_app_id: AppId,
    /// The first number no run ever had.
    pub first_run_id: RunId,
    /// No event ever had a number above this.
    pub last_event_seq: u64,
}
