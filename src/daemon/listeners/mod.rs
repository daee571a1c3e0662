//! Listening sockets that belong to an app rather than to one of its processes.
//!
//! ```text
//!   a request that starts something ─▶ reserve (bind; refuse before anything changes)
//!   Spawn ─▶ take: held already, reserved, or bound now ─▶ a copy to the keeper, a copy to the instance
//!   no wanted slot and no run needs it any more ─▶ close: its file, our copy, the keeper's copy
//! ```
//!
//! A socket outlives the instances that use it, so what waits in its queue is served by the next one; the keeper's
//! copy outlives the daemon, the daemon's copy the keeper, an instance's copy both ([`recover`]).

mod hand;
mod open;
pub(crate) mod recover;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

use tokio::sync::oneshot;

use crate::daemon::{Answer, Daemon};
use crate::keeper::protocol::ToKeeper;
use crate::model::listen::{Address, ListenSpec};
use crate::model::names::{AppId, AppName, Slot};
use crate::os::{fds, fsx, socket};
use crate::supervise::app::App;

pub(crate) use hand::channel_number;
pub(crate) use open::validate;

/// One bound socket.
#[derive(Debug)]
struct Listener {
    fd: Arc<OwnedFd>,
    spec: ListenSpec,
    inode: u64,
    port: Option<u16>,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    /// By app and [`ListenSpec::key`].
    held: BTreeMap<AppId, BTreeMap<String, Listener>>,
    /// What workers of Node clusters have asked for.
    dynamic: BTreeMap<AppId, BTreeMap<String, ListenSpec>>,
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

/// What the keeper calls it.
fn stored_name(app: AppId, key: &str) -> String {
    format!("listen/{}/{key}", app.0)
}

/// The keys an app needs: of all its specs in use while anything of it is to run, else of those that runs have.
fn needed(app: &App) -> BTreeSet<String> {
    let to_run = app.wanted_slots().any(|slot| {
        app.slots
            .get(slot as usize)
            .is_none_or(|record| !record.completed || app.current(slot).is_some())
    });
    let used = |generation: u32| to_run || app.runs.values().any(|run| run.generation == generation);
    app.specs
        .iter()
        .filter(|(generation, _)| used(**generation))
        .flat_map(|(_, spec)| spec.listen.iter().map(ListenSpec::key))
        .collect()
}

impl Listeners {
    fn get(&self, app: AppId, key: &str) -> Option<&Listener> {
        self.held.get(&app)?.get(key)
    }

    /// Inode numbers of all: an instance that holds one has not bound anything itself.
    pub(crate) fn inodes(&self) -> BTreeSet<u64> {
        let all = self.held.values().flat_map(BTreeMap::values);
        all.map(|listener| listener.inode).collect()
    }

    /// The port an entry has, or will have.
    pub(crate) fn port(&self, app: AppId, spec: &ListenSpec) -> Option<u16> {
        let said = spec.address.inet()?.port();
        let bound = self.get(app, &spec.key()).and_then(|listener| listener.port);
        bound.or((said != 0).then_some(said))
    }

    /// Whether it is bound, and (if asked for) how many connections wait.
    pub(crate) fn state(&self, app: AppId, spec: &ListenSpec, queue: bool) -> (bool, Option<u32>) {
        match self.get(app, &spec.key()) {
            Some(listener) => (true, queue.then(|| socket::queued(&listener.fd)).flatten()),
            None => (false, None),
        }
    }

    /// The sockets whose queues an instance is to serve, as they are named in `listen`; true for those that other
    /// instances serve, too.
    pub(crate) fn of_slot(&self, app: AppId, _slot: Slot) -> Vec<(Address, Arc<OwnedFd>, bool)> {
        let held = self.held.get(&app).into_iter().flat_map(BTreeMap::values);
        held.map(|listener| (listener.spec.address.clone(), Arc::clone(&listener.fd), true))
            .collect()
    }

    /// Of an app: those that no spec in force names any more are listed, too.
    pub(crate) fn specs_of(&self, app: &App) -> Vec<ListenSpec> {
        let mut list = app.spec().listen.clone();
        let held = self.held.get(&app.id).into_iter().flat_map(BTreeMap::values);
        for listener in held {
            if !list.iter().any(|known| known.key() == listener.spec.key()) {
                list.push(listener.spec.clone());
            }
        }
        list
    }
}

impl Daemon {
    /// Takes a bound socket into the books, and gives the keeper a copy.
    fn keep_socket(&mut self, app: AppId, spec: &ListenSpec, fd: Arc<OwnedFd>) {
        let key = spec.key();
        self.keeper_send(
            &ToKeeper::Store {
                name: stored_name(app, &key),
            },
            vec![Arc::clone(&fd)],
        );
        self.enter_socket(app, spec.clone(), fd);
    }

    fn enter_socket(&mut self, app: AppId, spec: ListenSpec, fd: Arc<OwnedFd>) {
        let key = spec.key();
        let port = spec.address.inet().and_then(|_| socket::port(&fd));
        let chosen = spec.address.inet().is_some_and(|address| address.port() == 0);
        if let (Some(port), true, Some(app)) = (port, chosen, self.core.apps.get_mut(&app)) {
            app.ports.insert(key.clone(), port);
        }
        let listener = Listener {
            inode: fds::inode(&fd).unwrap_or(0),
            port,
            fd,
            spec,
        };
        self.listeners.held.entry(app).or_default().insert(key, listener);
    }

    /// Closes what an app needs no more.
    pub(crate) fn tend_listeners(&mut self, app: AppId) {
        let Some(held) = self.listeners.held.get(&app) else {
            return;
        };
        let known = self.core.apps.get(&app);
        let mut needed = known.map(needed).unwrap_or_default();
        if known.is_some_and(|app| app.wanted_slots().next().is_some() || !app.runs.is_empty()) {
            needed.extend(
                self.listeners
                    .dynamic
                    .get(&app)
                    .into_iter()
                    .flat_map(BTreeMap::keys)
                    .cloned(),
            );
        } else {
            self.listeners.dynamic.remove(&app);
        }
        let idle: Vec<String> = held.keys().filter(|key| !needed.contains(*key)).cloned().collect();
        for key in idle {
            self.close_socket(app, &key);
        }
    }

    fn close_socket(&mut self, app: AppId, key: &str) {
        let Some(held) = self.listeners.held.get_mut(&app) else {
            return;
        };
        if let Some(listener) = held.remove(key) {
            remove_file(&listener.spec.address);
        }
        if held.is_empty() {
            self.listeners.held.remove(&app);
        }
        self.keeper_send(
            &ToKeeper::Drop {
                name: stored_name(app, key),
            },
            Vec::new(),
        );
        self.listeners.closing = true;
    }

    /// Gives a new keeper copies of all.
    pub(crate) fn store_sockets(&mut self) {
        let all: Vec<(String, Arc<OwnedFd>)> = self
            .listeners
            .held
            .iter()
            .flat_map(|(app, held)| {
                held.iter()
                    .map(|(key, listener)| (stored_name(*app, key), Arc::clone(&listener.fd)))
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
