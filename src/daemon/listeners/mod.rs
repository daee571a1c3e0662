//! Listening sockets that belong to an app rather than to one of its processes.
//!
//! ```text
//!   a request that starts something ─▶ reserve (bind; refuse before anything changes)
//!   Spawn ─▶ take: held already, reserved, or bound now ─▶ a copy to the keeper, a copy to the instance
//!   a run comes, is ready, is told to stop ─▶ the kernel chooses among the slots in rotation
//!   a slot or lane is needed no more ─▶ nothing new ─▶ its queue is empty ─▶ close
//!   no wanted slot and no run needs it any more ─▶ close: its file, our copy, the keeper's copy
//! ```
//!
//! A socket outlives the instances that use it, so what waits in its queue is served by the next one; the keeper's
//! copy outlives the daemon, the daemon's copy the keeper, an instance's copy both ([`recover`]).

mod close;
mod cluster;
mod drain;
mod group;
mod hand;
mod hold;
mod lane;
mod names;
mod open;
mod queues;
pub(crate) mod recover;
mod rescue;
mod rotation;
mod share;
mod status;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use crate::daemon::demand::Demand;
use crate::daemon::{Answer, Daemon};
use crate::keeper::protocol::ToKeeper;
use crate::model::balance::Balance;
use crate::model::listen::{Address, ListenSpec};
use crate::model::names::{AppId, AppName, RunId, Slot};
use crate::model::spec::AppSpec;
use crate::os::{fsx, socket};
use crate::supervise::app::App;

use group::Group;

pub(crate) use hand::channel_number;
pub(crate) use lane::Lane;
pub(crate) use names::{CLUSTER, LISTEN};
pub(crate) use open::validate;
pub(crate) use rotation::Way;
pub(crate) use share::{Queue, Queues};

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    /// Those of apps that are started on demand, as they are watched.
    pub(crate) demand: Demand,
    /// By app and [`ListenSpec::key`].
    groups: BTreeMap<AppId, BTreeMap<String, Group>>,
    /// Runs that hold another socket than their lane's.
    elsewhere: BTreeMap<RunId, BTreeMap<String, Lane>>,
    /// Runs that are on the second lanes of their slots.
    second: lane::Runs,
    /// Runs whose lane is known.
    lanes_known: lane::Runs,
    /// Runs that are about to be told to stop, when they have accepted what waits for them.
    emptying: BTreeSet<RunId>,
    /// Queues that nobody will accept from.
    rescues: BTreeMap<(AppId, String, Lane), AbortHandle>,
    /// Apps that are looked at again when a socket may be closed.
    lingering: BTreeSet<AppId>,
    /// Bound for requests that are not answered yet; gone when nobody took them and the request is over.
    reserved: BTreeMap<(AppName, String), Weak<OwnedFd>>,
    /// The keeper was told to close something and has not said since that it is done.
    closing: bool,
    /// Those who wait until it is.
    waiting: VecDeque<Waiting>,
}

/// Answers, and who is to have them.
pub(crate) type Answers = Vec<(oneshot::Sender<Answer>, Answer)>;

/// Who waits for the keeper to have closed what it was told to close.
#[derive(Debug)]
enum Waiting {
    /// Commands whose answers promise that an address is free.
    Answers(Answers),
    /// A request that is about to bind.
    Request(oneshot::Sender<()>),
}

/// How connections are spread over the instances of a spec.
fn balance(spec: &AppSpec) -> Balance {
    spec.balance.unwrap_or(Balance::Even)
}

/// Every slot has its own socket of this entry.
fn is_per_slot(spec: &AppSpec, entry: &ListenSpec) -> bool {
    entry.address.inet().is_some() && balance(spec).has_slots()
}

/// What an app needs: how many slots of each key, of all its specs in use while anything of it is to run, else of
/// those that runs have.
fn needed(app: &App) -> BTreeMap<String, Slot> {
    let to_run = app.is_dormant()
        || app.wanted_slots().any(|slot| {
            app.slots
                .get(slot as usize)
                .is_none_or(|record| !record.completed || app.current(slot).is_some())
        });
    let mut needed = BTreeMap::new();
    for (generation, spec) in &app.specs {
        let runs = app.runs.values().filter(|run| run.generation == *generation);
        let of_runs = runs.map(|run| run.slot + 1).max();
        let desired = to_run.then_some(app.desired);
        let Some(slots) = of_runs.max(desired) else { continue };
        for entry in &spec.listen {
            let count = if is_per_slot(spec, entry) { slots } else { 1 };
            let known = needed.entry(entry.key()).or_insert(count);
            *known = count.max(*known);
        }
    }
    needed
}

impl Listeners {
    fn get(&self, app: AppId, key: &str) -> Option<&Group> {
        self.groups.get(&app)?.get(key)
    }

    fn group_mut(&mut self, app: AppId, key: &str) -> Option<&mut Group> {
        self.groups.get_mut(&app)?.get_mut(key)
    }

    /// Inode numbers of all: an instance that holds one has not bound anything itself.
    pub(crate) fn inodes(&self) -> BTreeSet<u64> {
        let groups = self.groups.values().flat_map(BTreeMap::values);
        let members = groups.flat_map(|group| group.members.values());
        members.map(|member| member.inode).collect()
    }

    /// The port an entry has, or will have.
    pub(crate) fn port(&self, app: AppId, spec: &ListenSpec) -> Option<u16> {
        let said = spec.address.inet()?.port();
        let bound = self.get(app, &spec.key()).and_then(|group| group.port);
        bound.or((said != 0).then_some(said))
    }

    /// Nothing is left of a run.
    pub(crate) fn forget(&mut self, run: RunId) {
        self.elsewhere.remove(&run);
        self.second.remove(&run);
        self.lanes_known.remove(&run);
        self.emptying.remove(&run);
        for group in self.groups.values_mut().flat_map(BTreeMap::values_mut) {
            if let Some(asked) = &mut group.asked {
                asked.remove(&run);
            }
        }
    }

    /// The lane of this group from which a run accepts; none if it does not, or has not asked for it yet.
    fn seat_of(&self, app: &App, key: &str, group: &Group, run: RunId) -> Option<Lane> {
        let asked = group.asked.as_ref().is_none_or(|asked| asked.contains(&run));
        self.place_of(app, key, group, run).filter(|_| asked)
    }

    /// The same for one that may still ask.
    fn place_of(&self, app: &App, key: &str, group: &Group, run: RunId) -> Option<Lane> {
        let record = app.runs.get(&run)?;
        if let Some(lane) = self.elsewhere.get(&run).and_then(|keys| keys.get(key)) {
            return Some(*lane);
        }
        let spec = app.spec_of(record);
        let own = if is_per_slot(spec, &group.spec) {
            self.lane_of(run, record.slot)
        } else {
            Lane::SHARED
        };
        let has = group.asked.is_some() || spec.listen.iter().any(|entry| entry.key() == key);
        has.then_some(own)
    }
}

impl Daemon {
    /// Takes a bound socket into the books, and gives the keeper a copy.
    fn keep_socket(&mut self, app: AppId, spec: &ListenSpec, dynamic: bool, lane: Lane, fd: Arc<OwnedFd>) {
        self.enter_socket(app, spec, dynamic, lane, fd);
        self.store_socket(app, &spec.key(), lane);
    }

    fn store_socket(&mut self, app: AppId, key: &str, lane: Lane) {
        let Some(group) = self.listeners.get(app, key) else {
            return;
        };
        if let Some(member) = group.members.get(&lane) {
            let name = names::stored(app, group, lane);
            let fd = Arc::clone(&member.fd);
            self.keeper_send(&ToKeeper::Store { name }, vec![fd]);
        }
    }

    fn enter_socket(&mut self, app: AppId, spec: &ListenSpec, dynamic: bool, lane: Lane, fd: Arc<OwnedFd>) {
        let key = spec.key();
        let port = spec.address.inet().and_then(|_| socket::port(&fd));
        let chosen = spec.address.inet().is_some_and(|address| address.port() == 0);
        if let Some(record) = self.core.apps.get_mut(&app) {
            if let (Some(port), true) = (port, chosen) {
                record.ports.insert(key.clone(), port);
            }
            if dynamic {
                record.ports.insert(names::record(spec), port.unwrap_or(0));
            }
        }
        let groups = self.listeners.groups.entry(app).or_default();
        let group = groups.entry(key).or_insert_with(|| Group::new(spec.clone(), dynamic));
        group.port = port;
        group.enter(lane, fd);
        self.note_order(app, &spec.key());
    }

    /// Has the kernel's order written down, for the next daemon in case no keeper tells it.
    fn note_order(&mut self, app: AppId, key: &str) {
        let order = self.listeners.get(app, key).and_then(|group| {
            let entry = |lane: &Lane| Some((lane.to_string(), group.members.get(lane)?.inode));
            let order: Option<Vec<_>> = group.order.as_ref()?.iter().map(entry).collect();
            order.filter(|order| order.len() > 1 || group.members.keys().any(|lane| lane.second))
        });
        let Some(record) = self.core.apps.get_mut(&app) else {
            return;
        };
        let changed = match order {
            Some(order) if record.orders.get(key) == Some(&order) => false,
            Some(order) => record.orders.insert(key.to_owned(), order).is_none_or(|_| true),
            None => record.orders.remove(key).is_some(),
        };
        if changed {
            self.core.touched(app);
        }
    }

    /// Gives a new keeper copies of all.
    pub(crate) fn store_sockets(&mut self) {
        let all: Vec<(String, Arc<OwnedFd>)> = self
            .listeners
            .groups
            .iter()
            .flat_map(|(app, groups)| groups.values().map(move |group| (*app, group)))
            .flat_map(|(app, group)| {
                let named = move |lane: &Lane| names::stored(app, group, *lane);
                group
                    .members
                    .iter()
                    .map(move |(lane, member)| (named(lane), Arc::clone(&member.fd)))
            })
            .collect();
        for (name, fd) in all {
            self.keeper_send(&ToKeeper::Store { name }, vec![fd]);
        }
        // The copies of the old one are gone with it.
        self.listeners.closing = false;
        while !self.listeners.waiting.is_empty() {
            self.ponged();
        }
    }

    /// Resolves when the keeper has closed what it was told to close: what was free a moment ago can be bound then.
    pub(crate) fn when_closed(&mut self) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        // Those who wait already have taken the mark.
        if std::mem::take(&mut self.listeners.closing) || !self.listeners.waiting.is_empty() {
            self.keeper_send(&ToKeeper::Ping, Vec::new());
            self.listeners.waiting.push_back(Waiting::Request(sender));
        }
        receiver
    }

    /// Answers commands; after a socket was closed, when the keeper has closed it, too, so that its address is free
    /// for whoever hears of it.
    pub(crate) fn answer_when_closed(&mut self, answers: Answers) {
        if !std::mem::take(&mut self.listeners.closing) {
            self.answer(answers);
            return;
        }
        self.keeper_send(&ToKeeper::Ping, Vec::new());
        self.listeners.waiting.push_back(Waiting::Answers(answers));
    }

    /// The keeper has done everything that it was told before the oldest question. The last question of a daemon that
    /// is to leave without the apps is whether it may.
    pub(crate) fn ponged(&mut self) {
        match self.listeners.waiting.pop_front() {
            Some(Waiting::Answers(answers)) => self.answer(answers),
            Some(Waiting::Request(sender)) => {
                // The client may have gone away.
                let _gone = sender.send(());
            }
            None if self.detaching => self.leave(),
            None => {}
        }
    }

    fn answer(&self, answers: Answers) {
        self.store.write(Box::new(move |_| {
            for (sender, answer) in answers {
                // The client may have gone away.
                let _gone = sender.send(answer);
            }
        }));
    }
}

/// Removes the file of a Unix socket, and nothing else that may stand in its place.
fn remove_file(address: &Address) {
    use std::os::unix::fs::FileTypeExt;
    let Address::Unix(path) = address else { return };
    let is_socket = std::fs::symlink_metadata(path.as_path()).is_ok_and(|file| file.file_type().is_socket());
    if is_socket && let Err(error) = fsx::remove_file(path.as_path()) {
        tracing::warn!("the socket {path} cannot be removed: {error}");
    }
}
