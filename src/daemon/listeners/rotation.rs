//! The kernel follows the rotation: who may get new connections, gets them.

use std::collections::BTreeSet;

use super::group::Group;
use super::{Listeners, balance};
use crate::daemon::Daemon;
use crate::model::duration::Millis;
use crate::model::names::{AppId, RunId, Slot};
use crate::model::time::Moment;
use crate::os::clock;
use crate::supervise::app::App;
use crate::supervise::run::{Cause, Phase, Run};

/// A start that is due within this time is worth waiting for.
const SOON: Millis = Millis(200);

/// The slots of a group.
#[derive(Debug)]
struct View {
    /// Those whose instances are ready, or all that are wanted if none is.
    chosen: BTreeSet<Slot>,
    /// Somebody is ready.
    ready: bool,
    /// Those whose queues nobody will accept from soon.
    stranded: Vec<Slot>,
}

impl Listeners {
    fn view(&self, app: &App, key: &str, group: &Group, now: Moment) -> View {
        let seat = |run: &RunId| self.seat_of(app, key, group, *run);
        let exists = |slot: &Slot| group.members.contains_key(slot);
        let online: BTreeSet<Slot> = app.rotation().iter().filter_map(seat).filter(exists).collect();
        let ready = !online.is_empty();
        let chosen = if ready {
            online
        } else {
            let wanted: BTreeSet<Slot> = app.wanted_slots().filter(exists).collect();
            if wanted.is_empty() {
                group.members.keys().copied().collect()
            } else {
                wanted
            }
        };
        let accepts = |slot: Slot| {
            let place = |run: &Run| self.place_of(app, key, group, run.id);
            let served = |run: &Run| place(run) == Some(slot) && self.will_accept(run);
            app.runs.values().any(|run| served(run)) || starts_soon(app, slot, now)
        };
        let slots = group.members.keys().copied();
        let stranded = slots
            .filter(|slot| ready && !chosen.contains(slot) && !accepts(*slot))
            .collect();
        View {
            chosen,
            ready,
            stranded,
        }
    }

    /// It takes what waits, or another takes its place at once.
    fn will_accept(&self, run: &Run) -> bool {
        matches!(run.cause, None | Some(Cause::Restart))
            || run.phase == Phase::PreStop
            || self.emptying.contains(&run.id)
    }
}

/// The restart law has it start soon.
fn starts_soon(app: &App, slot: Slot, now: Moment) -> bool {
    let next = app.slots.get(slot as usize).and_then(|record| record.next_start);
    !app.circuit.is_tripped() && app.is_wanted(slot) && next.is_some_and(|at| at <= now.after(SOON))
}

impl Daemon {
    /// Tells the kernel who may get new connections of an app, if that has changed, and looks after those that wait
    /// where nobody will accept them.
    pub(crate) fn follow_rotation(&mut self, id: AppId) {
        let Some(mut groups) = self.listeners.groups.remove(&id) else {
            return;
        };
        let mut stranded = BTreeSet::new();
        if let Some(app) = self.core.apps.get(&id) {
            let now = clock::monotonic();
            for (key, group) in groups.iter_mut().filter(|(_, group)| group.is_split()) {
                let view = self.listeners.view(app, key, group, now);
                group.choose(balance(app.spec()), &view.chosen);
                if view.ready && group.is_tcp() {
                    let out = view.stranded.into_iter().filter(|slot| group.is_out(*slot));
                    stranded.extend(out.map(|slot| (key.clone(), slot)));
                }
            }
        }
        self.listeners.groups.insert(id, groups);
        self.tend_rescues(id, stranded);
    }

    /// The same for every app whose record has changed.
    pub(crate) fn follow_rotations(&mut self) {
        if self.listeners.groups.is_empty() {
            return;
        }
        let changed: Vec<AppId> = self.core.dirty().collect();
        for id in changed {
            self.follow_rotation(id);
        }
    }

    /// Before a run is told anything: who else is ready gets what is new.
    pub(crate) fn leave_rotation(&mut self, run: RunId) {
        if let Some(id) = self.core.owner(run).map(|app| app.id) {
            self.follow_rotation(id);
        }
    }
}
