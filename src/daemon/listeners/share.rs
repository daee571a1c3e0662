//! The queues of Node workers, for whoever shares out what waits in one of them (`daemon::cluster::share`).

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::Listeners;
use crate::daemon::Daemon;
use crate::daemon::cluster::is_worker;
use crate::model::balance::Balance;
use crate::model::names::{AppId, RunId, Slot};
use crate::os::socket;

/// The queue of one worker.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    pub(crate) run: RunId,
    pub(crate) slot: Slot,
    pub(crate) fd: Arc<OwnedFd>,
}

impl Queue {
    /// Connections that wait in it.
    pub(crate) fn depth(&self) -> u32 {
        socket::queued(&self.fd).unwrap_or(0)
    }
}

/// The queues of one address between which the kernel chooses.
#[derive(Clone, Debug)]
pub(crate) struct Queues {
    pub(crate) app: AppId,
    pub(crate) key: String,
    /// A client's connections belong to one worker, however long they wait for it.
    pub(crate) sticky: bool,
    pub(crate) list: Vec<Queue>,
}

impl Listeners {
    fn queues_of(&self, daemon: &Daemon, id: AppId, key: &str) -> Option<Queues> {
        let group = self.get(id, key).filter(|group| group.is_tcp() && group.is_split())?;
        let app = daemon.core.apps.get(&id)?;
        let queue = |run: RunId| {
            app.runs.get(&run).filter(|record| is_worker(app.spec_of(record)))?;
            let lane = self.seat_of(app, key, group, run)?;
            let fd = Arc::clone(&group.members.get(&lane)?.fd);
            Some(Queue {
                run,
                slot: lane.slot,
                fd,
            })
        };
        let list: Vec<Queue> = app.rotation().into_iter().filter_map(queue).collect();
        (list.len() > 1).then(|| Queues {
            app: id,
            key: key.to_owned(),
            sticky: app.spec().balance == Some(Balance::Sticky),
            list,
        })
    }
}

impl Daemon {
    /// The queues of every address that several workers in rotation have one of.
    pub(crate) fn worker_queues(&self) -> Vec<Queues> {
        let apps = self.listeners.groups.keys();
        apps.flat_map(|app| self.worker_queues_of_app(*app)).collect()
    }

    /// Those of which one may be shared out to the others.
    pub(crate) fn divisible_queues(&self) -> Vec<Queues> {
        let mut all = self.worker_queues();
        all.retain(|queues| !queues.sticky);
        all
    }

    /// Those of one app.
    pub(crate) fn worker_queues_of_app(&self, app: AppId) -> Vec<Queues> {
        let keys = self.listeners.groups.get(&app).into_iter().flat_map(BTreeMap::keys);
        keys.filter_map(|key| self.worker_queues_of(app, key)).collect()
    }

    /// Those of one address.
    pub(crate) fn worker_queues_of(&self, app: AppId, key: &str) -> Option<Queues> {
        self.listeners.queues_of(self, app, key)
    }
}
