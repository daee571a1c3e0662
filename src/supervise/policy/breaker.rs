//! When a crash loop opens the circuit.
//!
//! ```text
//!            max_restarts unstable exits within the window          cooldown over
//!   closed ─────────────────────────────────────────────▶ open ───────────────────▶ probing
//!     ▲                                                    ▲ cooldown doubles          │
//!     │                                                    └──────── probe dies ───────┤
//!     └────────────────── probe becomes stable, or start / restart / reset ────────────┘
//! ```

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::model::duration::Millis;
use crate::model::spec::RestartSpec;
use crate::model::time::Moment;

/// The unstable exits of one instance, or of one app, inside the sliding window.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    exits: VecDeque<Moment>,
}

impl Window {
    /// Notes an unstable exit and returns how many there were within `window` up to `now`, this included.
    pub fn record(&mut self, now: Moment, window: Millis, limit: usize) -> usize {
        while self.exits.front().is_some_and(|at| at.after(window) <= now) {
            self.exits.pop_front();
        }
        self.exits.push_back(now);
        while self.exits.len() > limit {
            self.exits.pop_front();
        }
        self.exits.len()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.exits = VecDeque::new();
    }
}

/// Where a circuit stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Circuit {
    /// Starts are allowed.
    #[default]
    Closed,
    /// Nothing is started until then; `None`: until somebody acts.
    Open {
        /// When a probe is due.
        until: Option<Moment>,
        /// How long this opening lasts.
        cooldown: Millis,
    },
    /// One instance is being tried.
    Probing {
        /// What the cooldown was, to be doubled if the probe fails.
        cooldown: Millis,
    },
}

impl Circuit {
    /// Starts are not free: open, or one probe under way.
    #[must_use]
    pub const fn is_tripped(self) -> bool {
        match self {
            Self::Closed => false,
            Self::Open { .. } | Self::Probing { .. } => true,
        }
    }

    /// Nothing is started at all.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Open { .. })
    }

    /// When a probe is due.
    #[must_use]
    pub const fn until(self) -> Option<Moment> {
        match self {
            Self::Open { until, .. } => until,
            Self::Closed | Self::Probing { .. } => None,
        }
    }

    /// The circuit after its probe could not be made: open again for as long as it was, because nothing was learned.
    #[must_use]
    pub fn postponed(self, now: Moment, spec: &RestartSpec) -> Self {
        match self {
            Self::Probing { cooldown } => Self::Open { until: None, cooldown }.tripped(now, spec),
            Self::Closed | Self::Open { .. } => self,
        }
    }

    /// The circuit after it has tripped at `now`: the first cooldown, or twice the last one if a probe failed.
    #[must_use]
    pub fn tripped(self, now: Moment, spec: &RestartSpec) -> Self {
        let Some(first) = spec.cooldown else {
            return Self::Open {
                until: None,
                cooldown: Millis::ZERO,
            };
        };
        let cooldown = match self {
            Self::Closed => first,
            Self::Open { cooldown, .. } => cooldown,
            Self::Probing { cooldown } => Millis((cooldown.0.saturating_mul(2)).min(spec.cooldown_max.0).max(first.0)),
        };
        Self::Open {
            until: Some(now.after(cooldown)),
            cooldown,
        }
    }
}

/// Unstable exits of the app as a whole that open its circuit, provided that no instance is stable: the
/// larger of `max_restarts` and the number of instances.
#[must_use]
pub fn app_limit(spec: &RestartSpec, instances: u32) -> usize {
    spec.max_restarts.max(instances) as usize
}

#[cfg(test)]
mod tests {
    use super::{Circuit, Window};
    use crate::model::duration::Millis;
    use crate::model::spec::RestartSpec;
    use crate::model::time::Moment;

    const fn at(millis: u64) -> Moment {
        Moment(millis * 1_000_000)
    }

    #[test]
    fn the_window_slides() {
        let mut window = Window::default();
        let counts: Vec<usize> = [0, 10, 20, 30, 39, 100]
            .iter()
            .map(|s| window.record(at(s * 1000), Millis(30_000), 99))
            .collect();
        assert_eq!(counts, [1, 2, 3, 3, 4, 1], "an exit 30 s ago is outside");
    }

    #[test]
    fn the_cooldown_doubles_to_its_cap_only_after_failed_probes() {
        let spec = RestartSpec::default();
        let mut circuit = Circuit::Closed.tripped(at(0), &spec);
        assert_eq!(
            circuit,
            Circuit::Open {
                until: Some(at(60_000)),
                cooldown: Millis(60_000)
            }
        );
        let mut cooldowns = Vec::new();
        for _ in 0..5 {
            let Circuit::Open { cooldown, .. } = circuit else {
                unreachable!()
            };
            circuit = Circuit::Probing { cooldown }.tripped(at(0), &spec);
            if let Circuit::Open { cooldown, .. } = circuit {
                cooldowns.push(cooldown.0 / 1000);
            }
        }
        assert_eq!(cooldowns, [120, 240, 480, 600, 600]);
        let never = RestartSpec { cooldown: None, ..spec };
        assert_eq!(
            Circuit::Closed.tripped(at(0), &never),
            Circuit::Open {
                until: None,
                cooldown: Millis(0)
            }
        );
    }
}
