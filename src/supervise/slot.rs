//! One instance number of an app: what runs in it, and what its past says about its next start.

use serde::{Deserialize, Serialize};

use crate::model::exit::Exit;
use crate::model::names::RunId;
use crate::model::time::Moment;
use crate::supervise::policy::breaker::{Circuit, Window};

/// A time that does not come.
pub const NEVER: Moment = Moment(u64::MAX);

/// A slot. It outlives its runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SlotState {
    /// The run in service.
    pub current: Option<RunId>,
    /// The run that is to take its place.
    pub incoming: Option<RunId>,
    /// The newest run of this slot, living or not.
    pub newest: Option<RunId>,
    /// Unstable exits in a row.
    pub unstable: u32,
    /// Unstable exits within `restart_window`.
    pub window: Window,
    /// This instance's circuit.
    pub circuit: Circuit,
    /// When the next start is due.
    pub next_start: Option<Moment>,
    /// Waits for the app's `require` to be checked.
    pub unchecked: bool,
    /// Ended by itself and is to stay so.
    pub completed: bool,
    /// Starts nobody asked for.
    pub restarts: u32,
    /// Nothing in service here is replaced by the core's own decision before then: the last replacement was no good.
    /// [`NEVER`]: until somebody acts.
    #[serde(default)]
    pub rest: Option<Moment>,
    /// Replacements for health in a row that were no better.
    #[serde(default)]
    pub futile: u32,
    /// So many that it was told, and is hardly tried any more.
    #[serde(default)]
    pub given_up: bool,
    /// How the last run ended.
    pub last_exit: Option<Exit>,
    /// What the last run said of itself, if it ended badly.
    #[serde(default)]
    pub last_words: Option<String>,
    /// Why it is not running, for people.
    pub reason: Option<String>,
    /// The last stderr lines of the run that failed.
    #[serde(default)]
    pub stderr: Vec<String>,
}

impl SlotState {
    /// Forgets failures: the next start is as good as the first.
    pub fn absolve(&mut self) {
        self.unstable = 0;
        self.window.clear();
        self.circuit = Circuit::Closed;
        self.next_start = None;
        self.completed = false;
        self.reason = None;
        self.stderr = Vec::new();
        self.futile = 0;
        self.rest = None;
        self.given_up = false;
    }
}
