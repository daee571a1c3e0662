//! Replacing one generation by the next, a few slots at a time.
//!
//! ```text
//!   per slot, start-first:  spawn new ─▶ Proving ──ready + min_healthy──▶ promote ─▶ Retiring old ─▶ done
//!   per slot, stop-first:   Clearing old ─▶ spawn new ─▶ Proving ──ready + min_healthy──▶ promote ─▶ done
//!
//!   Checking `require`, Inspecting ─▶ Rolling ──all done──▶ Finishing ──spec on disk──▶ over, well
//!        │ something is missing          │ a new instance     │ the spec cannot be written
//!        │                               │ fails, or the      │
//!        ▼                               ▼ deadline passes    ▼
//!      RollingBack (the same steps towards the old generation) ─▶ over, failed
//!
//!   kept although it fails: the old run retires, the new generation's restarts follow the restart law
//! ```
//!
//! The new spec is written only after every slot is done, so whatever interrupts a rollout leaves the old one
//! in force. A memory replacement is a rollout of one slot to the same generation.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::model::names::{RunId, Slot};
use crate::model::spec::Order;
use crate::model::time::Moment;
use crate::supervise::run::Generation;

/// Why generations are being replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// Somebody asked.
    Reload,
    /// An instance passed `max_memory_restart`. Gives way to anything a user asks for.
    Memory,
    /// An instance does not work any more. Gives way, too.
    Health,
    /// An instance is old, or asked to be replaced. Gives way, too.
    Recycle,
}

/// Where a slot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// Waits until this run is gone, then starts the new one.
    Clearing(RunId),
    /// The new run has to become ready and stay so.
    Proving {
        /// The new run.
        run: RunId,
        /// When it counts, once it is ready.
        healthy_at: Option<Moment>,
    },
    /// The new run is in service; waits until this old one is gone.
    Retiring(RunId),
    /// The new run has failed; waits until it is gone.
    Abandoning(RunId),
}

/// Why a rollout failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Which instance.
    pub slot: Option<Slot>,
    /// For people.
    pub message: String,
    /// The app's own last words.
    pub stderr: Vec<String>,
}

/// One rollout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// Why.
    pub purpose: Purpose,
    /// The generation in force before.
    pub from: Generation,
    /// The one to come.
    pub to: Generation,
    /// Start-first or stop-first; none while the running instance is being looked at.
    pub order: Option<Order>,
    /// The run that is being looked at.
    pub inspecting: Option<RunId>,
    /// Slots at a time.
    pub parallel: u32,
    /// So many are done first and watched in service before the others follow; 0: none, or not any more.
    #[serde(default)]
    pub canary: u32,
    /// They are being watched until then.
    #[serde(default)]
    pub watch_until: Option<Moment>,
    /// Slots still to be done.
    pub queue: VecDeque<Slot>,
    /// Slots being done.
    pub active: BTreeMap<Slot, Step>,
    /// The one slot that a replacement of the core's own is about.
    #[serde(default)]
    pub only: Option<Slot>,
    /// Slots that are done.
    pub done: Vec<Slot>,
    /// It fails if it is not over by then.
    pub deadline: Option<Moment>,
    /// The `require` of the generation to come is being checked; nothing of it is started before.
    #[serde(default)]
    pub checking: bool,
    /// On the way back.
    pub rolling_back: bool,
    /// All slots are done; the new spec is being written.
    pub finishing: bool,
    /// Never go back.
    pub keep: bool,
    /// The first failure.
    pub failure: Option<Failure>,
}

impl Rollout {
    /// The slot is being worked on.
    #[must_use]
    pub fn is_active(&self, slot: Slot) -> bool {
        self.active.contains_key(&slot)
    }

    /// The slot is being worked on, or still to be.
    #[must_use]
    pub fn concerns(&self, slot: Slot) -> bool {
        self.active.contains_key(&slot) || self.queue.contains(&slot)
    }

    /// Slots that were begun, in the direction it goes now.
    #[must_use]
    pub fn begun(&self) -> usize {
        let under_way = self.active.keys().filter(|slot| !self.done.contains(slot)).count();
        self.done.len() + under_way
    }

    /// The canaries have been begun, and the others may not be yet.
    #[must_use]
    pub fn waits_for_canaries(&self) -> bool {
        !self.rolling_back && self.canary > 0 && self.begun() >= self.canary as usize
    }

    /// What a slot is started from while this rollout is on.
    #[must_use]
    pub fn generation_for(&self, slot: Slot) -> Generation {
        if !self.rolling_back && self.done.contains(&slot) {
            self.to
        } else {
            self.from
        }
    }

    /// The generation the steps lead to.
    #[must_use]
    pub const fn goal(&self) -> Generation {
        if self.rolling_back { self.from } else { self.to }
    }

    /// When something is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Moment> {
        let healthy = self.active.values().filter_map(|step| match step {
            Step::Proving { healthy_at, .. } => *healthy_at,
            Step::Clearing(_) | Step::Retiring(_) | Step::Abandoning(_) => None,
        });
        healthy.chain(self.watch_until).chain(self.deadline).min()
    }
}
