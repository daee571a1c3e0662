//! One app: its wanted and its actual state, and what others may ask about it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::names::{AppId, AppName, RunId, Slot};
use crate::model::spec::AppSpec;
use crate::model::state::State;
use crate::model::time::Moment;
use crate::supervise::goal::Goal;
use crate::supervise::policy::breaker::{Circuit, Window};
use crate::supervise::rollout::Rollout;
use crate::supervise::run::{Generation, Phase, Run};
use crate::supervise::slot::SlotState;
use crate::supervise::stored::StoredFd;

/// One app. Serialisable, so that the next daemon goes on where this one stopped.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct App {
    /// Its number.
    pub id: AppId,
    /// How many instances are wanted.
    pub desired: u32,
    /// Whether it is to run at all.
    pub wanted: bool,
    /// Started on demand, and somebody has connected since it was last idle.
    #[serde(default)]
    pub demanded: bool,
    /// Instances the user stopped one by one.
    #[serde(default)]
    pub held: BTreeSet<Slot>,
    /// The generation in force.
    pub generation: Generation,
    /// The specs still in use. The one in force is stored elsewhere and put in after loading.
    #[serde(skip)]
    pub specs: BTreeMap<Generation, Arc<AppSpec>>,
    /// By slot number; at least as many as are desired.
    pub slots: Vec<SlotState>,
    /// Every run of which something may be left.
    // Boxed, because a tree node has room for eleven, and most apps have one or two.
    pub runs: BTreeMap<RunId, Box<Run>>,
    /// The circuit of the app as a whole.
    pub circuit: Circuit,
    /// Unstable exits of all instances.
    pub window: Window,
    /// Ports that the kernel chose for its listening sockets: one that is bound again gets the same.
    #[serde(default)]
    pub ports: BTreeMap<String, u16>,
    /// Descriptors that its instances have left with the manager.
    #[serde(default)]
    pub stored: BTreeMap<Slot, Vec<StoredFd>>,
    /// Of its sockets that share an address: lane and inode of each, in the kernel's order.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub orders: BTreeMap<String, Vec<(String, u64)>>,
    /// Why the circuit is open, for people.
    pub reason: Option<String>,
    /// A replacement of generations under way.
    pub rollout: Option<Rollout>,
    /// The `require` is being checked.
    pub checking: bool,
    /// The spec changed while its `require` was being checked: the answer is void, and it is checked again.
    #[serde(default)]
    pub recheck: bool,
    /// It goes as soon as nothing of it runs.
    pub deleting: bool,
    /// The whole program is shutting down: what is wanted stays wanted, but nothing starts any more.
    #[serde(skip)]
    pub draining: bool,
    /// Who waits for what.
    #[serde(skip)]
    pub goals: Vec<Goal>,
}

impl App {
    /// A new app, nothing running.
    #[must_use]
    pub fn new(id: AppId, spec: Arc<AppSpec>, desired: u32, wanted: bool) -> Self {
        Self {
            id,
            desired,
            wanted,
            demanded: false,
            held: BTreeSet::new(),
            generation: 0,
            specs: BTreeMap::from([(0, spec)]),
            slots: vec![SlotState::default(); desired as usize],
            runs: BTreeMap::new(),
            circuit: Circuit::Closed,
            window: Window::default(),
            ports: BTreeMap::new(),
            orders: BTreeMap::new(),
            stored: BTreeMap::new(),
            reason: None,
            rollout: None,
            checking: false,
            recheck: false,
            deleting: false,
            draining: false,
            goals: Vec::new(),
        }
    }

    /// The spec in force.
    #[must_use]
    #[expect(
        clippy::expect_used,
        reason = "the generation in force always has its spec: `new`, `adopt_spec` and `import` put it in, `prune` keeps it"
    )]
    pub fn spec(&self) -> &Arc<AppSpec> {
        self.specs.get(&self.generation).expect("the spec in force")
    }

    /// The spec of a run.
    #[must_use]
    pub fn spec_of(&self, run: &Run) -> &Arc<AppSpec> {
        self.specs.get(&run.generation).unwrap_or_else(|| self.spec())
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &AppName {
        &self.spec().name
    }

    /// Slot numbers that should have a process.
    pub fn wanted_slots(&self) -> impl Iterator<Item = Slot> + use<'_> {
        let count = if self.may_run() { self.desired } else { 0 };
        (0..count).filter(|slot| !self.held.contains(slot))
    }

    /// True if this slot should have a process.
    #[must_use]
    pub fn is_wanted(&self, slot: Slot) -> bool {
        self.may_run() && slot < self.desired && !self.held.contains(&slot)
    }

    /// True if anything of it may be started at all.
    fn may_run(&self) -> bool {
        self.wanted && !self.deleting && !self.draining && !self.is_dormant()
    }

    /// Slots of which anything is left.
    #[must_use]
    pub fn busy_slots(&self) -> BTreeSet<Slot> {
        self.runs.values().map(|run| run.slot).collect()
    }

    /// The slot's record, made if it is not there yet.
    pub fn slot_mut(&mut self, slot: Slot) -> &mut SlotState {
        let index = slot as usize;
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, SlotState::default);
        }
        &mut self.slots[index]
    }

    /// The run in service in a slot.
    #[must_use]
    pub fn current(&self, slot: Slot) -> Option<&Run> {
        self.slots
            .get(slot as usize)?
            .current
            .and_then(|run| self.runs.get(&run))
            .map(|run| &**run)
    }

    /// Runs of a slot, whatever their part.
    pub fn runs_in(&self, slot: Slot) -> impl Iterator<Item = &Run> {
        self.runs.values().map(|run| &**run).filter(move |run| run.slot == slot)
    }

    /// Runs that may be given new connections: those in service that are ready, work, and are not on their way out.
    /// If none works, those that do not; one that still has to prove itself only if nobody else is ready. Empty:
    /// nobody is; what arrives waits.
    #[must_use]
    pub fn rotation(&self) -> BTreeSet<RunId> {
        let online = |run: &RunId| self.runs.get(run).is_some_and(|run| run.is_online());
        let works = |run: &RunId| self.runs.get(run).is_some_and(|run| run.unhealthy.is_none());
        let mut serving: BTreeSet<RunId> = self
            .slots
            .iter()
            .filter_map(|slot| slot.current)
            .filter(online)
            .collect();
        if serving.is_empty() {
            serving = self
                .slots
                .iter()
                .filter_map(|slot| slot.incoming)
                .filter(online)
                .collect();
        }
        if serving.iter().any(works) {
            serving.retain(works);
        }
        serving
    }

    /// Any instance has proved itself and is still there.
    #[must_use]
    pub fn any_stable(&self) -> bool {
        self.runs.values().any(|run| run.stable && run.is_serving())
    }

    /// The state of one instance.
    #[must_use]
    pub fn slot_state(&self, slot: Slot) -> State {
        let Some(record) = self.slots.get(slot as usize) else {
            return State::Stopped;
        };
        let rolling = self.rollout.as_ref().is_some_and(|rollout| rollout.is_active(slot));
        if let Some(run) = record.current.and_then(|run| self.runs.get(&run)) {
            return match run.phase {
                Phase::Spawning | Phase::Starting if run.cause.is_none() => State::Starting,
                Phase::Online if run.unhealthy.is_some() => State::Unhealthy,
                Phase::Online if rolling || run.reload_until.is_some() => State::Reloading,
                Phase::Online => State::Online,
                Phase::Spawning
                | Phase::Starting
                | Phase::PreStop
                | Phase::Stopping
                | Phase::Killing
                | Phase::Sweeping
                    if rolling =>
                {
                    State::Reloading
                }
                Phase::Spawning
                | Phase::Starting
                | Phase::PreStop
                | Phase::Stopping
                | Phase::Killing
                | Phase::Sweeping => State::Stopping,
            };
        }
        if record.incoming.is_some() {
            return State::Reloading;
        }
        if self.runs_in(slot).next().is_some() {
            return State::Stopping;
        }
        if self.is_dormant() && slot < self.desired && !self.held.contains(&slot) {
            return State::Waiting;
        }
        if !self.is_wanted(slot) {
            return State::Stopped;
        }
        if self.circuit.is_tripped() || record.circuit.is_tripped() {
            State::Errored
        } else if record.next_start.is_some() {
            State::Backoff
        } else if record.unchecked {
            State::Waiting
        } else if record.completed {
            State::Completed
        } else {
            State::Stopped
        }
    }

    /// The most pressing state of its instances.
    #[must_use]
    pub fn state(&self) -> State {
        if self.wanted && !self.deleting && !self.is_dormant() && self.circuit.is_tripped() {
            return State::Errored;
        }
        let pressing = |state: State| match state {
            State::Errored => 9,
            State::Backoff => 8,
            State::Unhealthy => 7,
            State::Reloading => 6,
            State::Starting => 5,
            State::Stopping => 4,
            State::Waiting => 3,
            State::Online => 2,
            State::Completed => 1,
            State::Stopped => 0,
        };
        self.visible_slots()
            .map(|slot| self.slot_state(slot))
            .max_by_key(|state| pressing(*state))
            .unwrap_or(State::Stopped)
    }

    /// The slots worth showing: the desired ones and those of which something is left.
    pub fn visible_slots(&self) -> impl Iterator<Item = Slot> + use<'_> {
        let count = Slot::try_from(self.slots.len()).unwrap_or(Slot::MAX);
        (0..count.max(self.desired)).filter(|slot| *slot < self.desired || self.runs_in(*slot).next().is_some())
    }

    /// When something of this app is next due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Moment> {
        let runs = self.runs.values().filter_map(|run| run.deadline);
        let rollout = self.rollout.as_ref().and_then(Rollout::next_deadline);
        runs.chain(self.next_launch())
            .chain(self.next_replacement())
            .chain(rollout)
            .min()
    }

    /// When the restart law next starts something. A slot that is not wanted has no say, and no slot has
    /// while the app's own circuit is open: a time in the past that nobody acts upon would be waited for in
    /// a busy loop.
    fn next_launch(&self) -> Option<Moment> {
        let mut wanted = self
            .wanted_slots()
            .filter_map(|slot| self.slots.get(slot as usize))
            .peekable();
        wanted.peek()?;
        if self.circuit.is_tripped() {
            return self.circuit.until();
        }
        wanted.filter_map(|slot| slot.circuit.until().or(slot.next_start)).min()
    }

    /// Takes a new spec into the books and returns its generation.
    pub fn add_spec(&mut self, spec: Arc<AppSpec>) -> Generation {
        let next = self.specs.keys().next_back().map_or(0, |newest| newest + 1);
        self.specs.insert(next, spec);
        next
    }

    /// Drops specs nothing refers to and slots beyond what is desired of which nothing is left.
    pub fn prune(&mut self) {
        let keep = |generation: &Generation, app: &Self| {
            *generation == app.generation
                || app.runs.values().any(|run| run.generation == *generation)
                || app
                    .rollout
                    .as_ref()
                    .is_some_and(|rollout| rollout.from == *generation || rollout.to == *generation)
        };
        let unused: Vec<Generation> = self
            .specs
            .keys()
            .filter(|generation| !keep(generation, self))
            .copied()
            .collect();
        for generation in unused {
            self.specs.remove(&generation);
        }
        while self.slots.len() > self.desired as usize
            && self
                .runs_in(Slot::try_from(self.slots.len() - 1).unwrap_or(Slot::MAX))
                .next()
                .is_none()
        {
            self.slots.pop();
        }
    }
}
