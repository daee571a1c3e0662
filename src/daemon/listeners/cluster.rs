//! Sockets that are in no spec: workers of a Node cluster ask for them when they call `listen`.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::is_per_slot;
use crate::daemon::Daemon;
use crate::model::listen::{Address, ListenSpec};
use crate::model::names::RunId;

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
        let spec = self.core.apps.get(&app).map(|app| Arc::clone(app.spec()));
        let own = matches!(wanted.address, Address::Tcp(_)) && spec.is_some_and(|spec| is_per_slot(&spec, wanted));
        let dynamic = self
            .listeners
            .get(app, &wanted.key())
            .is_none_or(|group| group.asked.is_some());
        let fd = self.socket_for(app, if own { slot } else { 0 }, wanted, dynamic)?;
        let group = self.listeners.group_mut(app, &wanted.key());
        if let Some(asked) = group.and_then(|group| group.asked.as_mut()) {
            asked.insert(run);
        }
        self.follow_rotation(app);
        Ok(fd)
    }
}
