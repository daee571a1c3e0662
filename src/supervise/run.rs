//! One run of one process, from the wish to start it until nothing of it is left.
//!
//! ```text
//!              Spawned            Ready, or ready = "spawn"
//!   Spawning ───────────▶ Starting ───────────▶ Online
//!      │ SpawnFailed          │ stop / listen_timeout │ stop
//!      ▼                      ▼                       ▼
//!    (gone)               PreStop ──PreStopped/deadline──▶ Stopping ──kill_timeout──▶ Killing
//!                             └──────────── Exited (in any phase) ─────┬─────────────────┘
//!                                                                      ▼
//!                                                                  Sweeping ──Swept──▶ (gone)
//! ```
//!
//! Online, a run may be unhealthy or reload its configuration: it stays Online; see `health`. `Extend` puts off the
//! deadline of Starting, PreStop and Stopping, as often as the run asks; only a rollout's own `deadline` ends that.
//!
//! Arrows without a name are the core's own decisions. An exit is possible in every phase; `Sweeping` waits
//! until the leader's descendants are gone, so that a replacement never meets its predecessor's children.

use serde::{Deserialize, Serialize};

use crate::model::duration::Millis;
use crate::model::exit::Exit;
use crate::model::names::{RunId, Slot};
use crate::model::time::Moment;
use crate::model::words;
use crate::supervise::said::Said;

/// Counts the specs an app has had.
pub type Generation = u32;

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// The keeper was asked.
    Spawning,
    /// Executing, not ready.
    Starting,
    /// Ready.
    Online,
    /// `pre_stop` is running.
    PreStop,
    /// Asked to stop.
    Stopping,
    /// SIGKILL was sent.
    Killing,
    /// The leader is gone, descendants may not be.
    Sweeping,
}

/// Why a run is being stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// It is not wanted any more: stop, scale down, delete, shutdown.
    Unwanted,
    /// To be started again at once, because somebody asked.
    Restart,
    /// Another run takes its place, or it failed to take another's.
    Replaced,
    /// It did not become ready in time. Counts as an unstable exit.
    NotReady,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Its name for everybody.
    pub id: RunId,
    /// Which instance it is, or is to be.
    pub slot: Slot,
    /// Which spec it was started from.
    pub generation: Generation,
    /// Where it is.
    pub phase: Phase,
    /// Its leader process, from `Spawned` on.
    pub pid: Option<i32>,
    /// When its program began to execute.
    pub began: Option<Moment>,
    /// When it became ready.
    pub ready: Option<Moment>,
    /// When the present phase ends by itself.
    pub deadline: Option<Moment>,
    /// It has outlived `min_uptime` ready.
    pub stable: bool,
    /// Until when what is left of its tree is given time to end by itself, once its leader is gone.
    #[serde(default)]
    pub grace: Option<Moment>,
    /// Why it is being stopped.
    pub cause: Option<Cause>,
    /// When its leader was gone, and how.
    pub exit: Option<(Moment, Exit)>,
    /// Its last stderr lines, from its exit until it is gone.
    #[serde(default)]
    pub stderr: Vec<String>,
    /// It could not be started because the machine lacked something: not the app's failure.
    #[serde(default)]
    pub starved: bool,
    /// How often it has said that it will say `WATCHDOG=1`, if that is not as its spec says.
    #[serde(default)]
    pub watchdog: Option<Millis>,
    /// It does not work any more, though it was ready: why, for people.
    #[serde(default)]
    pub unhealthy: Option<String>,
    /// It is unhealthy because it was not ready again in time.
    #[serde(default)]
    pub late: bool,
    /// It was seen to work: its probe succeeded, its watchdog was fed.
    #[serde(default)]
    pub worked: bool,
    /// Being replaced for its health, it was taken into account; see [`super::policy::replacement`].
    #[serde(default)]
    pub judged: bool,
    /// To be replaced though nothing is wrong with it: why, for people.
    #[serde(default)]
    pub recycle: Option<String>,
    /// It reloads its configuration, and has to be ready again by then.
    #[serde(default)]
    pub reload_until: Option<Moment>,
    /// It was given more time than its spec says.
    #[serde(default)]
    pub extended: bool,
    /// Processes that its leader had started went on when that was gone.
    #[serde(default)]
    pub left_behind: bool,
    /// What it tells of itself.
    #[serde(default)]
    pub said: Said,
}

impl Run {
    /// A wish.
    #[must_use]
    pub const fn new(id: RunId, slot: Slot, generation: Generation) -> Self {
        Self {
            id,
            slot,
            generation,
            phase: Phase::Spawning,
            pid: None,
            began: None,
            ready: None,
            deadline: None,
            stable: false,
            grace: None,
            cause: None,
            exit: None,
            stderr: Vec::new(),
            starved: false,
            watchdog: None,
            unhealthy: None,
            late: false,
            worked: false,
            judged: false,
            recycle: None,
            reload_until: None,
            extended: false,
            left_behind: false,
            said: Said::nothing(),
        }
    }

    /// It is in service or on the way there, and nobody wants it to stop.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.cause.is_none()
            && match self.phase {
                Phase::Spawning | Phase::Starting | Phase::Online => true,
                Phase::PreStop | Phase::Stopping | Phase::Killing | Phase::Sweeping => false,
            }
    }

    /// How it ended, for people, and in what part of its life. A leader that ends well while others go on has put
    /// itself into the background, where nobody supervises it.
    #[must_use]
    pub fn ending(&self, when: &str) -> String {
        let Some((_, exit)) = &self.exit else {
            return format!("it ended{when}");
        };
        let hidden = if self.left_behind && self.cause.is_none() && exit.is_success() {
            ", while processes that it had started went on: what clmgr runs has to stay in the foreground"
        } else {
            ""
        };
        format!("{exit}{when}{hidden}")
    }

    /// It is ready, and nobody has told it to stop.
    #[must_use]
    pub fn is_online(&self) -> bool {
        self.phase == Phase::Online && self.cause.is_none()
    }

    /// SIGKILL was sent long ago, and it, or what it left behind, is still there.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        self.deadline.is_none()
            && match self.phase {
                Phase::Killing => self.is_live(),
                Phase::Sweeping => true,
                Phase::Spawning | Phase::Starting | Phase::Online | Phase::PreStop | Phase::Stopping => false,
            }
    }

    /// What it said of itself, if it has ended badly.
    #[must_use]
    pub fn last_words(&self) -> Option<String> {
        let badly = self.exit.as_ref().is_some_and(|(_, exit)| !exit.is_success());
        if badly { self.said.text() } else { None }
    }

    /// Its last stderr lines where not all of them are kept.
    #[must_use]
    pub fn brief(&self) -> Vec<String> {
        words::newest(&self.stderr, words::BRIEF)
    }

    /// A process of it may exist.
    #[must_use]
    pub const fn is_live(&self) -> bool {
        self.exit.is_none()
    }
}
