//! Which queues an instance is to serve.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::is_per_slot;
use crate::daemon::Daemon;
use crate::model::listen::Address;
use crate::model::names::RunId;

/// A socket from which an instance accepts.
#[derive(Debug)]
pub(crate) struct OwnQueue {
    /// As it was asked for.
    pub address: Address,
    pub socket: Arc<OwnedFd>,
    /// Instances in other slots accept from it, too.
    pub is_common: bool,
}

impl Daemon {
    /// The listening sockets that a run has from the manager.
    pub(crate) fn queues_of(&self, run: RunId) -> Vec<OwnQueue> {
        let Some(app) = self.core.owner(run) else {
            return Vec::new();
        };
        let Some(record) = app.runs.get(&run) else {
            return Vec::new();
        };
        let groups = self.listeners.groups.get(&app.id).into_iter().flatten();
        let queues = groups.filter_map(|(key, group)| {
            let seat = self.listeners.seat_of(app, key, group, run)?;
            Some(OwnQueue {
                address: group.spec.address.clone(),
                socket: Arc::clone(&group.members.get(&seat)?.fd),
                is_common: !is_per_slot(app.spec_of(record), &group.spec),
            })
        });
        queues.collect()
    }
}
