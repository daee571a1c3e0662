//! Before an instance is told to stop: what waits for it, and for nobody else, is accepted by it.
//!
//! ```text
//!   Stop ─▶ its slot gets nothing new ─▶ its queue is empty, or 500 ms are over ─▶ told to stop
//!                                                                                  what waits then: rescue
//! ```

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use crate::daemon::Daemon;
use crate::model::names::RunId;
use crate::os::socket;
use crate::supervise::run::Run;

/// How often to look at a queue: about as long as an instance needs to accept one connection.
const STEP: Duration = Duration::from_millis(1);
/// For how long: one that accepts nothing for so long is not worth waiting for.
const PATIENCE: Duration = Duration::from_millis(500);

impl Daemon {
    /// Has a run stop, once it has accepted what waits for it alone.
    pub(crate) fn stop(&mut self, run: RunId) {
        if self.core.owner(run).is_some_and(|app| self.is_halted(app.id)) {
            // What comes now is for the next one.
            return self.stop_emptied(run);
        }
        self.listeners.emptying.insert(run);
        self.leave_rotation(run);
        let queues = self.own_queues(run);
        if queues.iter().all(is_empty) {
            self.stop_emptied(run);
            return;
        }
        let timeout = self.spec_of(run).map(|spec| spec.stop.kill_timeout.to_std() / 2);
        let patience = PATIENCE.min(timeout.unwrap_or(PATIENCE));
        let mail = self.mail.clone();
        tokio::spawn(async move {
            let accepted = async {
                while !queues.iter().all(is_empty) {
                    tokio::time::sleep(STEP).await;
                }
            };
            let _late = tokio::time::timeout(patience, accepted).await;
            mail.post(move |daemon| daemon.stop_emptied(run));
        });
    }

    fn stop_emptied(&mut self, run: RunId) {
        self.listeners.emptying.remove(&run);
        self.stop_now(run);
        self.leave_rotation(run);
    }

    /// The sockets from which only this run accepts, while new connections go elsewhere.
    fn own_queues(&self, run: RunId) -> Vec<Arc<OwnedFd>> {
        let Some(app) = self.core.owner(run) else {
            return Vec::new();
        };
        let groups = self.listeners.groups.get(&app.id);
        groups
            .into_iter()
            .flatten()
            .filter(|(_, group)| group.is_tcp())
            .filter_map(|(key, group)| {
                let seat = |run: RunId| self.listeners.seat_of(app, key, group, run);
                let lane = seat(run).filter(|lane| group.is_out(*lane))?;
                let other = |other: &Run| other.id != run && other.cause.is_none() && seat(other.id) == Some(lane);
                let shared = app.runs.values().any(|run| other(run));
                group
                    .members
                    .get(&lane)
                    .filter(|_| !shared)
                    .map(|member| Arc::clone(&member.fd))
            })
            .collect()
    }
}

fn is_empty(queue: &Arc<OwnedFd>) -> bool {
    socket::queued(queue).is_none_or(|waiting| waiting == 0)
}
