//! Taking the sockets over: from the keeper, or from a living instance where keeper and daemon died together.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::lane::Lane;
use super::{is_per_slot, names, remove_file};
use crate::daemon::Daemon;
use crate::daemon::text::cause;
use crate::keeper::protocol::ToKeeper;
use crate::model::event::EventKind;
use crate::model::listen::{Address, ListenSpec, numbers};
use crate::model::names::{AppId, RunId, Slot};
use crate::os::{clock, fds, listening, pidfd, socket};

/// Sockets the keeper had, by their stored names.
pub(crate) type Stored = BTreeMap<String, OwnedFd>;

/// What is found out on the way.
#[derive(Debug, Default)]
struct Found {
    /// The places that slots had in the kernel's order.
    places: BTreeMap<(AppId, String), BTreeMap<Lane, Option<u32>>>,
    /// Those whose order was written down.
    orders: BTreeMap<(AppId, String), Vec<(String, u64)>>,
    /// What the keeper has.
    stored: BTreeSet<String>,
    /// Why some could not be taken back.
    lost: BTreeMap<(AppId, String), String>,
}

impl Found {
    /// Lane and place of a socket as they were written down.
    fn noted_place(&self, app: AppId, key: &str, inode: u64) -> Option<(Lane, u32)> {
        let order = self.orders.get(&(app, key.to_owned()))?;
        let mut places = (0..).zip(order);
        let (place, (lane, _)) = places.find(|(_, (_, known))| *known == inode && inode != 0)?;
        Some((lane.parse().ok()?, place))
    }
}

impl Daemon {
    /// Before anything is started, so that nothing is bound that exists. `fresh`: the keeper is new, and what is
    /// missing was not missed before.
    pub(crate) fn recover_sockets(&mut self, stored: Stored, fresh: bool) {
        let apps = self.core.apps.values();
        let orders = apps.flat_map(|app| {
            app.orders
                .iter()
                .map(|(key, order)| ((app.id, key.clone()), order.clone()))
        });
        let mut found = Found {
            orders: orders.collect(),
            ..Found::default()
        };
        for (name, fd) in stored {
            self.recover_stored(name, fd, &mut found);
        }
        let living: Vec<(RunId, AppId, Slot)> = self
            .handles
            .iter()
            .filter(|(_, handle)| handle.exit.is_none() && pidfd::alive(&handle.pidfd))
            .map(|(run, handle)| (*run, handle.app, handle.slot))
            .collect();
        for (run, app, slot) in living {
            self.recover_from(run, app, slot, &mut found);
            self.recover_asked(run, app, slot, &mut found);
        }
        self.settle(&found);
        for ((app, key), why) in found.lost {
            if fresh && self.listeners.get(app, &key).is_none() {
                tracing::warn!("{why}");
                self.hub.announce(clock::wall(), EventKind::ListenerLost, why);
            }
        }
        let apps: Vec<AppId> = self.listeners.groups.keys().copied().collect();
        for app in apps {
            self.tend_listeners(app);
        }
    }

    fn recover_stored(&mut self, name: String, fd: OwnedFd, found: &mut Found) {
        let Some(parsed) = names::parse(&name) else { return };
        let (key, lane, place) = names::split(parsed.rest);
        let spec = self
            .spec_stored(&parsed, parsed.rest)
            .map(|spec| (spec, Lane::SHARED, Some(0)))
            .filter(|(spec, _, _)| socket::is(&fd, spec))
            .or_else(|| Some((self.spec_stored(&parsed, key)?, lane, place)));
        match spec {
            Some((spec, lane, place)) if socket::is(&fd, &spec) => {
                self.enter_socket(parsed.app, &spec, parsed.backlog.is_some(), lane, Arc::new(fd));
                let places = found.places.entry((parsed.app, spec.key())).or_default();
                places.insert(lane, place);
                found.stored.insert(name);
            }
            Some(_) | None => {
                if spec.is_none()
                    && let Ok(address @ Address::Unix(_)) = parsed.rest.parse::<Address>()
                {
                    remove_file(&address);
                }
                self.keeper_send(&ToKeeper::Drop { name }, Vec::new());
            }
        }
    }

    /// What a stored socket was made for, if it is still known.
    fn spec_stored(&self, name: &names::Name<'_>, key: &str) -> Option<ListenSpec> {
        let app = self.core.apps.get(&name.app)?;
        if let Some(backlog) = name.backlog {
            return names::rebuilt(backlog, key);
        }
        let mut entries = app.specs.values().flat_map(|spec| &spec.listen);
        entries.find(|entry| entry.key() == key).cloned()
    }

    /// The sockets of `listen` that a living process has and we have not.
    fn recover_from(&mut self, run: RunId, app: AppId, slot: Slot, found: &mut Found) {
        let Some(spec) = self.spec_of(run) else { return };
        for (number, wanted) in numbers(&spec.listen).into_iter().zip(&spec.listen) {
            let key = wanted.key();
            let lane = if is_per_slot(&spec, wanted) {
                self.listeners.lane_of(run, slot)
            } else {
                Lane::SHARED
            };
            let Some(handle) = self.handles.get(&run) else { return };
            let pid = handle.pid;
            match take_back(&handle.pidfd, number, wanted) {
                Ok(fd) => {
                    if self.take_in_socket(run, app, lane, wanted, false, fd, found) {
                        let message = format!("{} of {} was taken back from process {pid}", wanted.address, spec.name);
                        tracing::info!("{message}");
                        self.hub.announce(clock::wall(), EventKind::Adopted, message);
                    }
                }
                Err(why) => {
                    let message = format!(
                        "{} of {} could not be taken back from process {pid} ({why}): what runs goes on, but a new \
                         instance cannot listen there before the old ones have stopped",
                        wanted.address, spec.name
                    );
                    found.lost.insert((app, key), message);
                }
            }
        }
    }

    /// The sockets that a worker of a Node cluster has asked for.
    fn recover_asked(&mut self, run: RunId, app: AppId, slot: Slot, found: &mut Found) {
        let recorded: Vec<(ListenSpec, u16)> = self
            .core
            .apps
            .get(&app)
            .into_iter()
            .flat_map(|app| &app.ports)
            .filter_map(|(name, port)| Some((names::recorded(name)?, *port)))
            .collect();
        let (Some(handle), false) = (self.handles.get(&run), recorded.is_empty()) else {
            return;
        };
        let pidfd = Arc::clone(&handle.pidfd);
        let held = listening::sockets_by_number(handle.pid);
        for (wanted, port) in recorded {
            let mut bound = wanted.clone();
            if let Address::Tcp(address) | Address::Udp(address) = &mut bound.address {
                address.set_port(port);
            }
            let fd = held.iter().find_map(|number| take_back(&pidfd, *number, &bound).ok());
            let Some(fd) = fd else { continue };
            let per_slot = self
                .core
                .apps
                .get(&app)
                .is_some_and(|app| is_per_slot(app.spec(), &wanted));
            let own = if per_slot && matches!(wanted.address, Address::Tcp(_)) {
                self.listeners.lane_of(run, slot)
            } else {
                Lane::SHARED
            };
            if self.take_in_socket(run, app, own, &wanted, true, fd, found) {
                tracing::info!("{} was taken back from process {run}", bound.address);
            }
            let group = self.listeners.group_mut(app, &wanted.key());
            if let Some(asked) = group.and_then(|group| group.asked.as_mut()) {
                asked.insert(run);
            }
        }
    }

    /// Takes a socket in that a process has; false if it is one of ours already.
    #[expect(clippy::too_many_arguments, reason = "each says whose it is, or what")]
    fn take_in_socket(
        &mut self,
        run: RunId,
        app: AppId,
        mut lane: Lane,
        wanted: &ListenSpec,
        dynamic: bool,
        fd: OwnedFd,
        found: &mut Found,
    ) -> bool {
        let key = wanted.key();
        let inode = fds::inode(&fd).unwrap_or(0);
        let noted = found.noted_place(app, &key, inode);
        if let Some((known, _)) = noted.filter(|(known, _)| known.slot == lane.slot && *known != lane) {
            self.enter_lane(run, known.second);
            lane = known;
        }
        if let Some(group) = self.listeners.get(app, &key) {
            let known = group.members.iter().find(|(_, member)| member.inode == inode);
            if let Some(held) = known.map(|(held, _)| *held) {
                if held != lane {
                    // It was started when all had one socket.
                    let elsewhere = self.listeners.elsewhere.entry(run).or_default();
                    elsewhere.insert(key, held);
                }
                return false;
            }
            // Two instances of a slot live, and nobody knows any more which was where.
            if let (Some(second), false) = (self.free_lane(app, &key, lane), inode == 0) {
                self.enter_lane(run, second.second);
                lane = second;
            } else if group.members.contains_key(&lane) {
                return false;
            }
        }
        self.enter_socket(app, wanted, dynamic, lane, Arc::new(fd));
        // Without a note there was one socket only, or an earlier build, which had no lanes.
        let place = match noted {
            Some((known, place)) => (known == lane).then_some(place),
            None if found.orders.contains_key(&(app, key.clone())) => None,
            None => (!lane.second).then_some(lane.slot),
        };
        found.places.entry((app, key)).or_default().insert(lane, place);
        true
    }

    /// A slot's other lane, if one is taken and that is not.
    fn free_lane(&self, app: AppId, key: &str, lane: Lane) -> Option<Lane> {
        let members = &self.listeners.get(app, key)?.members;
        let spec = self.core.apps.get(&app)?.spec();
        let per_slot = super::balance(spec).has_slots();
        (per_slot && members.contains_key(&lane) && !members.contains_key(&lane.other())).then(|| lane.other())
    }

    /// Everything is there: the kernel's order, and with it the keeper's names.
    fn settle(&mut self, found: &Found) {
        let mut named = BTreeSet::new();
        for ((app, key), places) in &found.places {
            let Some(group) = self.listeners.group_mut(*app, key) else {
                continue;
            };
            group.reorder(places);
            self.note_order(*app, key);
            let Some(group) = self.listeners.group_mut(*app, key) else {
                continue;
            };
            let lanes: Vec<Lane> = group.members.keys().copied().collect();
            for lane in lanes {
                let name = self
                    .listeners
                    .get(*app, key)
                    .map(|group| names::stored(*app, group, lane));
                if let Some(name) = name.filter(|name| named.insert(name.clone()) && !found.stored.contains(name)) {
                    tracing::debug!("{name} is given to the keeper");
                    self.store_socket(*app, key, lane);
                }
            }
        }
        for name in found.stored.difference(&named) {
            self.keeper_send(&ToKeeper::Drop { name: name.clone() }, Vec::new());
        }
    }
}

/// The descriptor of that number, if it is the socket that was put there.
fn take_back(pidfd: &OwnedFd, number: i32, wanted: &ListenSpec) -> Result<OwnedFd, String> {
    let fd = pidfd::descriptor(pidfd, number).map_err(|error| cause(&error))?;
    if socket::is(&fd, wanted) {
        Ok(fd)
    } else {
        Err(format!("its descriptor {number} is something else by now"))
    }
}
