//! Sockets that are in no spec: workers of a Node cluster ask for them when they call `listen`.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::lane::Lane;
use super::{Listeners, is_per_slot};
use crate::daemon::Daemon;
use crate::model::listen::{Address, ListenSpec};
use crate::model::names::{AppId, AppName, RunId};

impl Listeners {
    /// What an app has, whoever asked for it.
    pub(crate) fn all_of(&self, app: AppId) -> Vec<ListenSpec> {
        let groups = self.groups.get(&app).into_iter().flat_map(|groups| groups.values());
        groups.map(|group| group.spec.clone()).collect()
    }
}

impl Daemon {
    /// The socket that a worker has asked for, made when the first one asks; it belongs to the app as
    /// those of `listen` do. A TCP socket is the slot's own if the app's `balance` says so; from now on it is given
    /// connections while the worker is in rotation. All others are one for all.
    ///
    /// # Errors
    /// The system's own.
    pub(crate) fn cluster_socket(&mut self, run: RunId, wanted: &ListenSpec) -> io::Result<Arc<OwnedFd>> {
        let handle = self.handles.get(&run).ok_or(io::ErrorKind::NotFound)?;
        let (app, slot) = (handle.app, handle.slot);
        let spec = self.spec_of(run);
        let own = matches!(wanted.address, Address::Tcp(_)) && spec.is_some_and(|spec| is_per_slot(&spec, wanted));
        let lane = if own {
            self.listeners.lane_of(run, slot)
        } else {
            Lane::SHARED
        };
        let dynamic = self
            .listeners
            .get(app, &wanted.key())
            .is_none_or(|group| group.asked.is_some());
        let fd = self.socket_for(app, lane, wanted, dynamic)?;
        let group = self.listeners.group_mut(app, &wanted.key());
        if let Some(asked) = group.and_then(|group| group.asked.as_mut()) {
            asked.insert(run);
        }
        self.follow_rotation(app);
        Ok(fd)
    }

    /// A worker has closed its server on the socket with this key: it accepts nothing there any more.
    pub(crate) fn cluster_closed(&mut self, run: RunId, key: &str) {
        let Some(app) = self.handles.get(&run).map(|handle| handle.app) else {
            return;
        };
        let group = self.listeners.group_mut(app, key);
        if let Some(asked) = group.and_then(|group| group.asked.as_mut()) {
            asked.remove(&run);
            self.follow_rotation(app);
        }
    }

    /// Why a worker cannot have a socket, and what to do, for people.
    pub(crate) fn listen_trouble(&self, app: &AppName, wanted: &ListenSpec, error: &io::Error) -> String {
        let trouble = self.trouble(app, wanted, error);
        format!("{}; {}", trouble.why, trouble.hint)
    }
}
