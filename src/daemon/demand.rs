//! Apps that the first connection starts, and that are stopped again when nobody is connected.
//!
//! ```text
//!   dormant ── somebody connects ──▶ Demand ──▶ runs ── nobody for idle_timeout ──▶ halted, and looked at again
//!      ▲                                         ▲ somebody has come meanwhile ─────────┤
//!      └────────────────── stopped ◀── Idle ◀────┴───────── still nobody ───────────────┘
//! ```
//!
//! The sockets are bound all the time; what arrives while nothing runs waits in them. The daemon waits for each of them
//! to become readable, once: a connection that nobody takes wakes it one time, not again and again. While the app runs,
//! the same watch says that somebody came since the last look, and the kernel's tables say who is still there.
//!
//! Between the last look and the signal somebody could be accepted by a process that is about to end. So it is halted
//! (SIGSTOP), looked at again, told to stop, and only then goes on: whoever came meanwhile is in the queue still, and is
//! served by the next one.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;

use crate::daemon::Daemon;
use crate::model::duration::Millis;
use crate::model::listen::Address;
use crate::model::names::AppId;
use crate::model::outcome::InstanceResult;
use crate::model::time::Moment;
use crate::os::pidfd::{self, Scope};
use crate::os::tree::Member;
use crate::os::{clock, connections, procfs, tree, watch};
use crate::supervise::Input;
use crate::supervise::run::Generation;

/// Looks for connections within one `idle_timeout`.
const LOOKS: u64 = 10;
/// But not more often than this.
const SHORTEST: Millis = Millis(250);
/// How often it is looked whether all processes have halted, and after which pause.
const HALTS: u32 = 20;
const HALT_PAUSE: Duration = Duration::from_millis(1);

const SIGSTOP: i32 = 19;
const SIGCONT: i32 = 18;

/// All apps that are watched.
#[derive(Debug, Default)]
pub(crate) struct Demand {
    watched: BTreeMap<AppId, Watched>,
}

/// What an app is watched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum For {
    /// Somebody who connects.
    Demand,
    /// Nobody who is connected, for so long.
    Idle(Millis),
}

#[derive(Debug)]
struct Watched {
    what: (For, Generation),
    /// Wait until something arrives at a socket, once.
    arrivals: Vec<AbortHandle>,
    clock: Option<AbortHandle>,
    /// When somebody was connected last.
    last: Moment,
    /// Its processes are halted, or about to be.
    halted: bool,
    /// That its connections cannot be counted was said.
    complained: bool,
}

impl Drop for Watched {
    fn drop(&mut self) {
        for task in self.arrivals.iter().chain(&self.clock) {
            task.abort();
        }
    }
}

impl Daemon {
    /// Begins to watch an app, or stops, as it needs to be now.
    pub(crate) fn tend_demand(&mut self, id: AppId) {
        let wanted = self.core.apps.get(&id).and_then(|app| {
            let on_demand = app.spec().on_demand?;
            let what = if app.is_dormant() {
                For::Demand
            } else if app.runs.is_empty() || app.wanted_slots().next().is_none() {
                return None;
            } else {
                For::Idle(on_demand.idle_timeout?)
            };
            Some((what, app.generation))
        });
        if self.listeners.demand.watched.get(&id).map(|known| known.what) == wanted {
            return;
        }
        self.listeners.demand.watched.remove(&id);
        let Some(what) = wanted else { return };
        self.listeners.demand.watched.insert(
            id,
            Watched {
                what,
                arrivals: Vec::new(),
                clock: None,
                last: clock::monotonic(),
                halted: false,
                complained: false,
            },
        );
        match what.0 {
            For::Demand => self.watch_arrivals(id),
            For::Idle(timeout) => {
                // A daemon before this one may have halted it and died.
                self.wake(id, true);
                self.watch_arrivals(id);
                self.start_clock(id, timeout);
            }
        }
    }

    /// The same for all apps, when the daemon begins.
    pub(crate) fn tend_all_demand(&mut self) {
        let all: Vec<AppId> = self.core.apps.keys().copied().collect();
        for id in all {
            self.tend_demand(id);
        }
    }

    /// Waits, once, until something arrives at any socket of an app. One that is not bound yet is bound.
    fn watch_arrivals(&mut self, id: AppId) {
        let Some(spec) = self.core.apps.get(&id).map(|app| Arc::clone(app.spec())) else {
            return;
        };
        let sockets = match self.hold_sockets(id, &spec) {
            Ok(sockets) => sockets,
            Err(why) => {
                // An attempt to start it tells its user why, and is repeated by the law.
                tracing::warn!("{}: {why}", spec.name);
                return self.mail.input(Input::Demand(id));
            }
        };
        let tasks: Vec<AbortHandle> = sockets
            .iter()
            .filter_map(|socket| self.watch_socket(id, socket))
            .collect();
        if let Some(watched) = self.listeners.demand.watched.get_mut(&id) {
            watched.arrivals = tasks;
        }
    }

    fn watch_socket(&self, id: AppId, socket: &OwnedFd) -> Option<AbortHandle> {
        // A number of its own: the same one may be on its way out of the runtime's set still.
        let watch = socket.try_clone().and_then(watch::for_reading);
        let watch = match watch {
            Ok(watch) => watch,
            Err(error) => {
                tracing::error!("a socket of app {id} cannot be watched: {error}");
                return None;
            }
        };
        let mail = self.mail.clone();
        let task = tokio::spawn(async move {
            let arrived = watch.readable().await.is_ok();
            drop(watch);
            if arrived {
                mail.post(move |daemon| daemon.arrived(id));
            }
        });
        Some(task.abort_handle())
    }

    /// Somebody connects, or has sent something.
    fn arrived(&mut self, id: AppId) {
        let Some(watched) = self.listeners.demand.watched.get_mut(&id) else {
            return;
        };
        watched.last = clock::monotonic();
        match watched.what.0 {
            For::Demand if self.core.apps.get(&id).is_some_and(|app| app.is_dormant()) => {
                self.input(Input::Demand(id));
            }
            For::Demand | For::Idle(_) => {}
        }
    }

    fn start_clock(&mut self, id: AppId, timeout: Millis) {
        let period = Millis(timeout.0 / LOOKS).max(SHORTEST).to_std();
        let mail = self.mail.clone();
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(period).await;
                mail.post(move |daemon| daemon.look_for_connections(id));
            }
        });
        if let Some(watched) = self.listeners.demand.watched.get_mut(&id) {
            watched.clock = Some(task.abort_handle());
        }
    }

    /// The addresses an app listens on, with the ports that they have.
    fn bound_addresses(&self, id: AppId) -> Vec<Address> {
        let Some(app) = self.core.apps.get(&id) else {
            return Vec::new();
        };
        let with_port = |spec: crate::model::listen::ListenSpec| {
            let port = self.listeners.port(id, &spec);
            let mut address = spec.address;
            if let (Address::Tcp(inet) | Address::Udp(inet), Some(port)) = (&mut address, port) {
                inet.set_port(port);
            }
            address
        };
        app.spec().listen.iter().cloned().map(with_port).collect()
    }

    /// Nobody is connected, and nobody waits. Where that cannot be told, somebody may be.
    fn is_deserted(&mut self, id: AppId) -> bool {
        let error = match connections::open_to(&self.bound_addresses(id)) {
            Ok(open) => return open == 0,
            Err(error) => error,
        };
        if let Some(watched) = self.listeners.demand.watched.get_mut(&id)
            && !std::mem::replace(&mut watched.complained, true)
        {
            tracing::warn!("the connections to app {id} cannot be counted, so it is not stopped: {error}");
        }
        false
    }

    fn look_for_connections(&mut self, id: AppId) {
        let now = clock::monotonic();
        let deserted = self.is_deserted(id);
        let Some(watched) = self
            .listeners
            .demand
            .watched
            .get_mut(&id)
            .filter(|watched| !watched.halted)
        else {
            return;
        };
        let For::Idle(timeout) = watched.what.0 else { return };
        if !deserted {
            watched.last = now;
        }
        let idle = now.since(watched.last) >= timeout;
        if watched.arrivals.iter().any(AbortHandle::is_finished) {
            self.watch_arrivals(id);
        }
        if idle {
            self.halt(id);
        }
    }

    /// The members of an app's process trees, leaders first.
    fn members(&self, id: AppId) -> Vec<(i32, Arc<OwnedFd>)> {
        let leaders = self
            .handles
            .values()
            .filter(|handle| handle.app == id && handle.exit.is_none());
        let mut found: Vec<(i32, Arc<OwnedFd>)> =
            leaders.map(|handle| (handle.pid, Arc::clone(&handle.pidfd))).collect();
        let below: Vec<Member> = found.iter().flat_map(|(pid, _)| tree::descendants(*pid)).collect();
        found.extend(below.into_iter().map(|member| (member.pid, Arc::new(member.fd))));
        found
    }

    /// Halts all processes of an app, and looks again when they have.
    fn halt(&mut self, id: AppId) {
        if let Some(watched) = self.listeners.demand.watched.get_mut(&id) {
            watched.halted = true;
        }
        let members = self.members(id);
        for (_, fd) in &members {
            // It may have ended just now.
            let _gone = pidfd::signal(fd, SIGSTOP, Scope::Process);
        }
        let mail = self.mail.clone();
        tokio::spawn(async move {
            let mut halted = false;
            for _ in 0..HALTS {
                halted = members.iter().all(|(pid, _)| !runs(*pid));
                if halted {
                    break;
                }
                tokio::time::sleep(HALT_PAUSE).await;
            }
            mail.post(move |daemon| daemon.decide(id, halted));
        });
    }

    /// Its processes have halted: whoever is not accepted now waits for the next ones.
    fn decide(&mut self, id: AppId, halted: bool) {
        if halted && self.is_deserted(id) {
            self.input(Input::Idle(id));
            // Told to stop before they go on.
            self.perform_all();
        }
        self.wake(id, false);
        if let Some(watched) = self.listeners.demand.watched.get_mut(&id) {
            watched.halted = false;
            // Somebody came, or not everything could be halted: it is looked again after a while.
            watched.last = clock::monotonic();
        }
    }

    /// Its processes are halted and told to stop: what waits is not for them.
    pub(crate) fn is_halted(&self, id: AppId) -> bool {
        self.listeners
            .demand
            .watched
            .get(&id)
            .is_some_and(|watched| watched.halted)
    }

    /// Says of those that wait for their first connection where they do.
    pub(crate) fn tell_where_it_waits(&self, results: &mut [InstanceResult]) {
        for result in results {
            let dormant = self.core.apps.get(&result.id).is_some_and(|app| app.is_dormant());
            if let (Some(message), true) = (&mut result.message, dormant) {
                let addresses: Vec<String> = self
                    .bound_addresses(result.id)
                    .iter()
                    .map(ToString::to_string)
                    .collect();
                let on = format!("the first connection on {}", addresses.join(", "));
                *message = message.replacen("the first connection", &on, 1);
            }
        }
    }

    /// Lets an app's processes go on.
    fn wake(&self, id: AppId, only_halted: bool) {
        for (pid, fd) in self.members(id) {
            if !only_halted || !runs(pid) {
                let _gone = pidfd::signal(&fd, SIGCONT, Scope::Process);
            }
        }
    }
}

/// It is neither halted nor dead.
fn runs(pid: i32) -> bool {
    procfs::stat(pid).is_some_and(|stat| !matches!(stat.state, b'T' | b't' | b'Z' | b'X'))
}
