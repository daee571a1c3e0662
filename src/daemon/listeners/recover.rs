//! Taking the sockets over: from the keeper, or from a living instance where keeper and daemon died together.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::{remove_file, stored_name, worker};
use crate::daemon::Daemon;
use crate::daemon::text::cause;
use crate::keeper::protocol::ToKeeper;
use crate::model::event::EventKind;
use crate::model::listen::{Address, FIRST_FD, ListenSpec};
use crate::model::names::{AppId, RunId};
use crate::os::{clock, pidfd, socket};

/// Sockets the keeper had, by their stored names.
pub(crate) type Stored = BTreeMap<String, OwnedFd>;

/// How the stored names of sockets begin.
pub(crate) const PREFIX: &str = "listen/";

impl Daemon {
    /// Before anything is started, so that nothing is bound that exists. `fresh`: the keeper is new, and what is
    /// missing was not missed before.
    pub(crate) fn recover_sockets(&mut self, stored: Stored, fresh: bool) {
        for (name, fd) in stored {
            self.recover_stored(&name, fd);
        }
        let living: Vec<(RunId, AppId)> = self
            .handles
            .iter()
            .filter(|(_, handle)| handle.exit.is_none() && pidfd::alive(&handle.pidfd))
            .map(|(run, handle)| (*run, handle.app))
            .collect();
        let mut lost = BTreeMap::new();
        for (run, app) in living {
            self.recover_from(run, app, &mut lost);
        }
        for ((app, key), why) in lost {
            if fresh && self.listeners.get(app, &key).is_none() {
                tracing::warn!("{why}");
                self.hub.announce(clock::wall(), EventKind::ListenerLost, why);
            }
        }
        let apps: Vec<AppId> = self.listeners.held.keys().copied().collect();
        for app in apps {
            self.tend_listeners(app);
        }
    }

    fn recover_stored(&mut self, name: &str, fd: OwnedFd) {
        let parts = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('/'));
        let Some((id, key)) = parts.and_then(|(id, key)| Some((AppId(id.parse().ok()?), key))) else {
            return;
        };
        let app = self.core.apps.get(&id);
        let mut specs = app.into_iter().flat_map(|app| app.specs.values());
        let spec = specs
            .find_map(|spec| spec.listen.iter().find(|entry| entry.key() == key))
            .cloned();
        let spec = spec.or_else(|| {
            let spec = worker::spec_of(app?, key)?;
            let dynamic = self.listeners.dynamic.entry(id).or_default();
            dynamic.insert(key.to_owned(), spec.clone());
            Some(spec)
        });
        match spec {
            Some(spec) if socket::is(&fd, &spec) => self.enter_socket(id, spec, Arc::new(fd)),
            Some(_) | None => {
                if spec.is_none()
                    && let Ok(address @ Address::Unix(_)) = key.parse::<Address>()
                {
                    remove_file(&address);
                }
                self.keeper_send(&ToKeeper::Drop { name: name.to_owned() }, Vec::new());
            }
        }
    }

    /// The sockets that a living process has and we have not.
    fn recover_from(&mut self, run: RunId, app: AppId, lost: &mut BTreeMap<(AppId, String), String>) {
        let Some(spec) = self.spec_of(run) else { return };
        for (number, wanted) in (FIRST_FD..).zip(&spec.listen) {
            let key = wanted.key();
            if self.listeners.get(app, &key).is_some() {
                continue;
            }
            let Some(handle) = self.handles.get(&run) else { return };
            let pid = handle.pid;
            match take_back(&handle.pidfd, number, wanted) {
                Ok(fd) => {
                    self.keep_socket(app, wanted, Arc::new(fd));
                    let message = format!("{} of {} was taken back from process {pid}", wanted.address, spec.name);
                    tracing::info!(name = stored_name(app, &key), "{message}");
                    self.hub.announce(clock::wall(), EventKind::Adopted, message);
                }
                Err(why) => {
                    let message = format!(
                        "{} of {} could not be taken back from process {pid} ({why}): what runs goes on, but a new \
                         instance cannot listen there before the old ones have stopped",
                        wanted.address, spec.name
                    );
                    lost.insert((app, key), message);
                }
            }
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
