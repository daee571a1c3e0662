//! The two sockets that a slot has in turn.
//!
//! ```text
//!   slot 2 ─┬─ lane 2    the instance in service: the kernel gives it connections
//!           └─ lane 2b   the one that is to replace it: nothing but probes, until it has proved itself
//!   promoted: 2b is chosen instead of 2, 2 empties its queue and is closed, and is made again for the next one
//! ```

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use super::Listeners;
use crate::daemon::Daemon;
use crate::model::names::{AppId, RunId, Slot};
use crate::supervise::app::App;

/// One of a slot's sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Lane {
    pub(crate) slot: Slot,
    pub(crate) second: bool,
}

impl Lane {
    /// The one that all instances share, where they share one.
    pub(super) const SHARED: Self = Self::first(0);

    /// The one that a slot begins with.
    pub(super) const fn first(slot: Slot) -> Self {
        Self { slot, second: false }
    }

    /// The slot's other one.
    pub(super) const fn other(self) -> Self {
        Self {
            slot: self.slot,
            second: !self.second,
        }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.slot, if self.second { "b" } else { "" })
    }
}

impl FromStr for Lane {
    type Err = std::num::ParseIntError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (slot, second) = text.strip_suffix('b').map_or((text, false), |slot| (slot, true));
        Ok(Self {
            slot: slot.parse()?,
            second,
        })
    }
}

impl Listeners {
    /// Of a slot that has sockets of its own: that of a run.
    pub(super) fn lane_of(&self, run: RunId, slot: Slot) -> Lane {
        Lane {
            slot,
            second: self.second.contains(&run),
        }
    }

    /// The lane on which the next run of a slot without living ones goes on: the last one's, whose queue is left.
    pub(super) fn lane_left(&self, app: AppId, slot: Slot) -> Lane {
        let first = Lane::first(slot);
        let groups = self.groups.get(&app).into_iter().flatten().map(|(_, group)| group);
        let groups: Vec<_> = groups.collect();
        let has = |lane: Lane| groups.iter().any(|group| group.members.contains_key(&lane));
        let waits = |lane: Lane| {
            groups
                .iter()
                .any(|group| group.queued(lane).is_some_and(|queued| queued > 0))
        };
        match (has(first), has(first.other())) {
            (true, true) if waits(first.other()) && !waits(first) => first.other(),
            (false, true) => first.other(),
            (true | false, _) => first,
        }
    }

    /// The lanes that somebody has, or will have.
    pub(super) fn lane_wanted(&self, app: &App, slot: Slot) -> Lane {
        let record = app.slots.get(slot as usize);
        let run = record.and_then(|record| record.current.or(record.incoming));
        match run.filter(|run| self.lanes_known.contains(run)) {
            Some(run) => self.lane_of(run, slot),
            None => self.lane_left(app.id, slot),
        }
    }
}

impl Daemon {
    /// Decides on which lane a run that is about to start will be: not on that of another living one of its slot.
    pub(crate) fn choose_lane(&mut self, run: RunId, id: AppId, slot: Slot) -> bool {
        let second = self.core.apps.get(&id).is_some_and(|app| {
            let lives = |other: &RunId| {
                let record = app.runs.get(other).filter(|record| record.exit.is_none());
                *other != run && record.is_some() && self.listeners.lanes_known.contains(other)
            };
            let record = app.slots.get(slot as usize);
            let current = record.and_then(|record| record.current).filter(lives);
            let any = || app.runs_in(slot).map(|other| other.id).find(lives);
            // Where nobody knows the kernel's order, a lane cannot be left out: both share one, as long as both live.
            let groups = self.listeners.groups.get(&id).into_iter().flatten();
            let known = groups.map(|(_, group)| group).all(|group| group.order.is_some());
            match current.or_else(any) {
                Some(other) => self.listeners.second.contains(&other) != known,
                None => self.listeners.lane_left(id, slot).second,
            }
        });
        self.enter_lane(run, second);
        second
    }

    /// It is on the second lane of its slot.
    pub(crate) fn is_second(&self, run: RunId) -> bool {
        self.listeners.second.contains(&run)
    }

    /// Where a run is, as its label says.
    pub(crate) fn enter_lane(&mut self, run: RunId, second: bool) {
        self.listeners.lanes_known.insert(run);
        if second {
            self.listeners.second.insert(run);
        } else {
            self.listeners.second.remove(&run);
        }
    }
}

/// Runs whose lane is known, and those on the second one.
pub(super) type Runs = BTreeSet<RunId>;

#[cfg(test)]
mod tests {
    use super::Lane;

    #[test]
    fn lanes_are_read_as_they_were_written() {
        for lane in [Lane::first(0), Lane::first(12), Lane::first(7).other()] {
            assert_eq!(lane.to_string().parse(), Ok(lane));
        }
        for rubbish in ["", "b", "1c", "-1", "1bb"] {
            assert!(rubbish.parse::<Lane>().is_err(), "{rubbish}");
        }
    }
}
