//! How far a rollout is, for people who wait for it.

use crate::model::progress::{Progress, Waiting};
use crate::model::time::Moment;
use crate::supervise::app::App;
use crate::supervise::rollout::{Rollout, Step};

impl App {
    /// How far the replacement under way is. Pure: `now` only says how much time is left.
    #[must_use]
    pub fn progress(&self, now: Moment) -> Option<Progress> {
        let rollout = self.rollout.as_ref()?;
        let count = |slots: usize| u32::try_from(slots).unwrap_or(u32::MAX);
        let open = rollout
            .queue
            .iter()
            .filter(|slot| !rollout.active.contains_key(slot) && !rollout.done.contains(slot))
            .count();
        Some(Progress {
            done: count(rollout.done.len()),
            total: count(rollout.begun() + open),
            rolling_back: rollout.rolling_back,
            failure: rollout.failure.as_ref().map(|failure| failure.message.clone()),
            waiting: self.waiting(rollout, now),
        })
    }

    fn waiting(&self, rollout: &Rollout, now: Moment) -> Vec<Waiting> {
        if rollout.checking {
            return vec![Waiting::Checking];
        }
        if rollout.order.is_none() {
            return vec![Waiting::Inspecting];
        }
        if rollout.finishing {
            return vec![Waiting::Writing];
        }
        let step = |(slot, step): (&u32, &Step)| {
            let slot = *slot;
            match step {
                Step::Clearing(_) | Step::Abandoning(_) => Waiting::Stopping { slot },
                Step::Proving { run, healthy_at } => {
                    let online = self.runs.get(run).is_some_and(|run| run.is_online());
                    if online {
                        let left_ms = healthy_at.map(|at| at.since(now).0);
                        Waiting::Proving { slot, left_ms }
                    } else {
                        Waiting::Starting { slot }
                    }
                }
                Step::Retiring(_) => Waiting::Retiring { slot },
            }
        };
        let mut waiting: Vec<Waiting> = rollout.active.iter().map(step).collect();
        if let Some(until) = rollout.watch_until {
            let left_ms = until.since(now).0;
            waiting.push(Waiting::Canary { left_ms });
        }
        waiting
    }
}
