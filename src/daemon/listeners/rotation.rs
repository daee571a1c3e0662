//! The kernel follows the rotation: who may get new connections, gets them.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use super::group::Group;
use super::lane::Lane;
use super::{Listeners, balance, is_per_slot};
use crate::daemon::Daemon;
use crate::model::duration::Millis;
use crate::model::health::{Health, Probe};
use crate::model::names::{AppId, RunId, Slot};
use crate::model::spec::AppSpec;
use crate::model::time::Moment;
use crate::os::{clock, reuseport};
use crate::supervise::app::App;
use crate::supervise::run::{Cause, Phase, Run};

/// A start that is due within this time is worth waiting for.
const SOON: Millis = Millis(200);

/// How to reach one instance behind a port that it may have in common with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Nobody else has the port, or nobody can choose (one queue for all; IPv6).
    Any,
    /// Over IPv4, from this address.
    From(Ipv4Addr),
    /// It does not listen there yet; others may.
    NotYet,
}

/// The lanes of a group.
#[derive(Debug)]
struct View {
    /// Those whose instances are ready, or all that are wanted if none is.
    chosen: BTreeSet<Lane>,
    /// Somebody is ready.
    ready: bool,
    /// Those whose queues nobody will accept from soon.
    stranded: Vec<Lane>,
}

impl Listeners {
    fn view(&self, app: &App, key: &str, group: &Group, now: Moment, shunned: &dyn Fn(RunId) -> bool) -> View {
        let seat = |run: &RunId| self.seat_of(app, key, group, *run);
        let exists = |lane: &Lane| group.members.contains_key(lane);
        let online: BTreeSet<Lane> = app.rotation().iter().filter_map(seat).filter(exists).collect();
        let busy = |run: &RunId| shunned(*run);
        let given = app.rotation().into_iter().filter(|run| !busy(run));
        let given: BTreeSet<Lane> = given.filter_map(|run| seat(&run)).filter(exists).collect();
        let online = if given.is_empty() { online } else { given };
        let ready = !online.is_empty();
        let chosen = if ready {
            online
        } else {
            let of = |slot: Slot| {
                let own = is_per_slot(app.spec(), &group.spec);
                if own { self.lane_wanted(app, slot) } else { Lane::SHARED }
            };
            let wanted: BTreeSet<Lane> = app.wanted_slots().map(of).filter(exists).collect();
            if wanted.is_empty() {
                group.members.keys().copied().collect()
            } else {
                wanted
            }
        };
        let accepts = |lane: Lane| {
            let place = |run: &Run| self.place_of(app, key, group, run.id);
            let served = |run: &Run| place(run) == Some(lane) && self.will_accept(run);
            let soon = || starts_soon(app, lane.slot, now) && self.lane_left(app.id, lane.slot) == lane;
            app.runs.values().any(|run| served(run)) || soon()
        };
        let lanes = group.members.keys().copied();
        let stranded = lanes
            .filter(|lane| ready && !chosen.contains(lane) && !accepts(*lane))
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

/// Single instances of it are connected to, to see whether they work.
fn is_probed(spec: &AppSpec) -> bool {
    let by_network = |health: &Health| match &health.probe {
        Probe::Http(_) | Probe::Tcp(_) => true,
        Probe::Unix(_) | Probe::Exec(_) => false,
    };
    spec.health.as_ref().is_some_and(by_network)
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
                let view = self.listeners.view(app, key, group, now, &|run| self.is_shunned(run));
                group.choose(balance(app.spec()), &view.chosen, is_probed(app.spec()));
                if view.ready && group.is_tcp() {
                    let out = view.stranded.into_iter().filter(|lane| group.is_out(*lane));
                    stranded.extend(out.map(|lane| (key.clone(), lane)));
                }
            }
        }
        self.listeners.groups.insert(id, groups);
        self.tend_rescues(id, stranded);
        self.tend_sharing(id);
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

    /// How a connection to this port of this machine reaches exactly this run.
    pub(crate) fn way_to(&self, run: RunId, port: u16) -> Way {
        let Some(app) = self.core.owner(run) else {
            return Way::Any;
        };
        let mut groups = self.listeners.groups.get(&app.id).into_iter().flatten();
        let Some((key, group)) = groups.find(|(_, group)| group.is_tcp() && group.port == Some(port)) else {
            return Way::Any;
        };
        match self.listeners.seat_of(app, key, group, run) {
            Some(lane) if group.is_split() => group
                .place(lane)
                .and_then(reuseport::probe_source)
                .map_or(Way::Any, Way::From),
            Some(_) => Way::Any,
            None if self.listeners.place_of(app, key, group, run).is_some() => Way::NotYet,
            None => Way::Any,
        }
    }

    /// Before a run is told anything: who else is ready gets what is new.
    pub(crate) fn leave_rotation(&mut self, run: RunId) {
        if let Some(id) = self.core.owner(run).map(|app| app.id) {
            self.follow_rotation(id);
        }
    }
}
