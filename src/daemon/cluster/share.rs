//! A worker whose event loop is blocked accepts nothing, and what the kernel puts into its queue waits, while others
//! have nothing to do. Then this accepts from its queue, and hands the connections to the others.
//!
//! ```text
//!   armed ──somebody connects──▶ looking ──every queue is empty──▶ armed
//!                                 │  ▲
//!       a queue that only grows ──┘  └── 4 ms after the first, then every 2 ms
//!       is shared out: accept ─▶ newconn to an idle worker ─▶ accepted: ours is closed
//!                                                       └──▶ not: to the next one
//! ```
//!
//! A worker that did not wait for anything for [`LONG`] meanwhile is suspected for a while: programs that block their
//! event loop do it again. Then its queue is shared out at the first look that finds something in it, and it is given
//! nothing new until its event loop has waited once more.
//!
//! Armed costs nothing: the kernel rings once, for the first connection after that. Each worker has at most one
//! connection on its way that it has not confirmed, so that none is handed to one that is blocked itself. With
//! `balance = "sticky"` nothing is shared out.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;

use crate::daemon::Daemon;
use crate::daemon::listeners::{Queue, Queues};
use crate::model::duration::Millis;
use crate::model::names::{AppId, RunId, Slot};
use crate::model::time::Moment;
use crate::node::message;
use crate::os::{clock, epoll, procfs, socket, watch};
use crate::supervise::Input;

/// From the first connection to a look: a healthy worker has long accepted it.
const FIRST: Duration = Duration::from_millis(4);
/// Time between two looks while something waits.
const AGAIN: Duration = Duration::from_millis(2);
/// A queue that has not become shorter in so many looks is not being served.
const STUCK: u32 = 2;
/// A worker that is busy with one thing for longer has blocked its event loop; a busy machine makes others wait less.
const LONG: Millis = Millis(20);
/// After so long looks become rare.
const LASTING: Millis = Millis(1_000);
/// Time between those.
const RARELY: Duration = Duration::from_millis(50);
/// Looks for which a worker that was blocked is suspected: 600 ms.
const SUSPECTED: u32 = 300;
/// Most connections that one look hands over for one queue.
const BURST: usize = 64;

/// What one queue did.
#[derive(Clone, Copy, Debug, Default)]
struct Watched {
    /// Connections that waited when it was last looked at.
    left: u32,
    /// Looks in which nothing was taken out of it.
    still: u32,
    /// Looks for which it stays suspected: a worker that was blocked is likely to be blocked again.
    suspected: u32,
    /// Since when its worker is busy with one thing.
    blocked: Option<Blocked>,
}

impl Watched {
    /// Looks again; true if nobody serves it. Of one that is suspected the first look says so.
    const fn look(&mut self, depth: u32) -> bool {
        self.still = if depth == 0 || depth < self.left {
            0
        } else {
            self.still + 1
        };
        self.left = depth;
        self.suspected = self.suspected.saturating_sub(1);
        self.is_stuck()
    }

    const fn is_stuck(&self) -> bool {
        self.still > STUCK || (self.still > 0 && self.suspected > 0)
    }

    /// What its worker does, which has waited so often by now.
    fn see(&mut self, now: Moment, waits: u64) {
        self.blocked = match self.blocked {
            Some(blocked) if blocked.waits == waits => Some(blocked),
            Some(_) | None if self.is_stuck() => Some(Blocked { since: now, waits }),
            Some(_) | None => None,
        };
        if self.blocked.is_some_and(|blocked| now >= blocked.since.after(LONG)) {
            self.suspected = SUSPECTED;
        }
    }

    /// Nothing new is to be expected of it soon.
    fn is_lasting(&self, now: Moment) -> bool {
        self.left == 0 && self.blocked.is_some_and(|blocked| now >= blocked.since.after(LASTING))
    }

    /// It is to get nothing new.
    const fn is_shunned(&self) -> bool {
        self.suspected > 0 && self.blocked.is_some()
    }
}

/// A connection that a worker has not confirmed.
#[derive(Debug)]
struct Handed {
    app: AppId,
    key: String,
    /// Whose queue it comes from.
    slot: Slot,
    connection: Arc<OwnedFd>,
    /// Who has been asked.
    tried: BTreeSet<RunId>,
}

/// What is being shared out.
#[derive(Debug, Default)]
pub(super) struct Sharing {
    bell: Option<AbortHandle>,
    /// The workers that it rings for.
    armed: BTreeMap<AppId, BTreeSet<(String, RunId)>>,
    looking: bool,
    watched: BTreeMap<(AppId, String, RunId), Watched>,
    /// By worker and number of the question.
    handed: BTreeMap<RunId, (u64, Handed)>,
    last: u64,
    /// Workers that get nothing new until their event loop has waited.
    shunned: BTreeSet<RunId>,
    /// Workers that were found to be hung.
    hung: BTreeSet<RunId>,
}

/// Since when a worker has been busy with one thing, or stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Blocked {
    since: Moment,
    /// How often its event loop had waited by then.
    waits: u64,
}

impl Daemon {
    /// An app's workers may have changed.
    pub(crate) fn tend_sharing(&mut self, app: AppId) {
        let queues = self.worker_queues_of_app(app);
        let now: BTreeSet<(String, RunId)> = queues
            .iter()
            .flat_map(|queues| queues.list.iter().map(|queue| (queues.key.clone(), queue.run)))
            .collect();
        let before = self.workers.sharing.armed.get(&app);
        if before.map_or(now.is_empty(), |before| *before == now) {
            return;
        }
        if now.is_empty() {
            self.workers.sharing.armed.remove(&app);
        } else {
            self.workers.sharing.armed.insert(app, now);
        }
        self.arm_sharing();
    }

    /// Has the kernel ring when somebody connects to one of several workers.
    fn arm_sharing(&mut self) {
        if self.workers.sharing.looking {
            return;
        }
        if let Some(bell) = self.workers.sharing.bell.take() {
            bell.abort();
        }
        let all = self.divisible_queues();
        if all.is_empty() {
            return;
        }
        let queues = all.iter().flat_map(|queues| &queues.list).map(|queue| &*queue.fd);
        let bell = match epoll::bell(queues).and_then(watch::for_reading) {
            Ok(bell) => bell,
            Err(error) => {
                tracing::warn!("the queues of workers cannot be watched: {error}");
                return;
            }
        };
        let mail = self.mail.clone();
        let task = tokio::spawn(async move {
            let _rang = bell.readable().await;
            drop(bell);
            mail.post(|daemon| {
                daemon.workers.sharing.looking = true;
                daemon.look_after(FIRST);
            });
        });
        self.workers.sharing.bell = Some(task.abort_handle());
    }

    /// Whether a worker is to get no new connections as long as there are others.
    pub(crate) fn is_shunned(&self, run: RunId) -> bool {
        self.workers.sharing.shunned.contains(&run)
    }

    fn look_after(&self, pause: Duration) {
        let mail = self.mail.clone();
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            mail.post(Self::look_at_queues);
        });
    }

    fn look_at_queues(&mut self) {
        let (mut waiting, mut lasting) = (false, false);
        let mut watched = BTreeMap::new();
        let mut changed = BTreeSet::new();
        let now = clock::monotonic();
        for queues in self.divisible_queues() {
            let depths: Vec<u32> = queues.list.iter().map(Queue::depth).collect();
            waiting |= depths.iter().any(|depth| *depth > 0);
            let idle = depths.contains(&0);
            for (queue, depth) in queues.list.iter().zip(&depths) {
                let place = (queues.app, queues.key.clone(), queue.run);
                let mut record = self.workers.sharing.watched.get(&place).copied().unwrap_or_default();
                let stuck = record.look(*depth);
                if stuck || record.blocked.is_some() {
                    let pid = self.handles.get(&queue.run).map(|handle| handle.pid);
                    if let Some(waits) = pid.and_then(procfs::voluntary_switches) {
                        record.see(now, waits);
                    }
                }
                if let Some(blocked) = record.blocked {
                    self.find_hung(queue.run, blocked, now);
                }
                if record.is_shunned() && self.workers.sharing.shunned.insert(queue.run) {
                    changed.insert(queues.app);
                }
                if stuck && idle {
                    record.left = record
                        .left
                        .saturating_sub(self.share_out(&queues, queue.slot, queue.run));
                }
                waiting |= !record.is_lasting(now) && (record.suspected > 0 || record.blocked.is_some());
                lasting |= record.is_lasting(now);
                if record.left > 0 || record.still > 0 || record.suspected > 0 || record.blocked.is_some() {
                    watched.insert(place, record);
                }
            }
        }
        let still = |run: &RunId| {
            watched
                .iter()
                .any(|((_, _, other), record)| other == run && record.is_shunned())
        };
        let back: Vec<RunId> = self.workers.sharing.shunned.extract_if(.., |run| !still(run)).collect();
        changed.extend(
            back.into_iter()
                .filter_map(|run| self.core.owner(run).map(|app| app.id)),
        );
        self.workers.sharing.watched = watched;
        for app in changed {
            self.follow_rotation(app);
        }
        if waiting {
            self.look_after(AGAIN);
        } else if lasting {
            self.look_after(RARELY);
        } else {
            self.workers.sharing.looking = false;
            self.arm_sharing();
        }
    }

    /// Hands what waits in a queue to idle workers, as long as there is one; how many that were.
    fn share_out(&mut self, queues: &Queues, slot: Slot, blocked: RunId) -> u32 {
        let Some(queue) = queues.list.iter().find(|queue| queue.run == blocked) else {
            return 0;
        };
        let mut count = 0;
        for _ in 0..BURST {
            let tried = BTreeSet::from([blocked]);
            // Where nobody sleeps, the machine is busy, and nothing is gained.
            if self.idle_worker(queues, &tried).is_none_or(|run| !self.sleeps(run)) {
                break;
            }
            let Ok(Some(connection)) = socket::accept(&*queue.fd) else {
                break;
            };
            let handed = Handed {
                app: queues.app,
                key: queues.key.clone(),
                slot,
                connection: Arc::new(connection),
                tried,
            };
            count += 1;
            if let Err(handed) = self.hand(handed) {
                self.serve_elsewhere(handed);
                break;
            }
        }
        count
    }

    /// A queue that is shared out is empty for who looks for hung instances, so it is found here: a worker that left
    /// connections waiting, and whose event loop has not waited for anything since.
    fn find_hung(&mut self, run: RunId, blocked: Blocked, now: Moment) {
        let patience = self.spec_of(run).and_then(|spec| spec.hang_timeout);
        let Some(patience) = patience.filter(|patience| now >= blocked.since.after(*patience)) else {
            return;
        };
        if self.workers.sharing.hung.insert(run) {
            let why = format!("hung: it left connections waiting and has done nothing else for {patience}");
            self.input(Input::Unhealthy(run, why));
        }
    }

    /// One that has nothing to do and nothing on its way; one that sleeps before others.
    fn idle_worker(&self, queues: &Queues, tried: &BTreeSet<RunId>) -> Option<RunId> {
        let handed = &self.workers.sharing.handed;
        let list = queues.list.iter();
        let idle = list
            .filter(|queue| !tried.contains(&queue.run) && !handed.contains_key(&queue.run))
            .filter(|queue| queue.depth() == 0)
            .map(|queue| queue.run);
        let idle: Vec<RunId> = idle.collect();
        let asleep = idle.iter().find(|run| self.sleeps(**run));
        asleep.or(idle.first()).copied()
    }

    /// One that has nothing on its way, whatever it is doing.
    fn free_worker(&self, queues: &Queues, tried: &BTreeSet<RunId>) -> Option<RunId> {
        let handed = &self.workers.sharing.handed;
        let free = |queue: &&Queue| !tried.contains(&queue.run) && !handed.contains_key(&queue.run);
        queues.list.iter().find(free).map(|queue| queue.run)
    }

    fn sleeps(&self, run: RunId) -> bool {
        let stat = self.handles.get(&run).and_then(|handle| procfs::stat(handle.pid));
        stat.is_some_and(|stat| stat.state == b'S')
    }

    /// Hands a connection to a worker that has not refused it, an idle one if there is one.
    fn hand(&mut self, mut handed: Handed) -> Result<(), Handed> {
        let Some(queues) = self.worker_queues_of(handed.app, &handed.key) else {
            return Err(handed);
        };
        // If nobody is idle any more, it waits no longer with a busy one than it would have.
        while let Some(run) = self
            .idle_worker(&queues, &handed.tried)
            .or_else(|| self.free_worker(&queues, &handed.tried))
        {
            handed.tried.insert(run);
            let open = self.workers.open.get(&run).into_iter().flatten();
            let known = open
                .filter(|(_, socket)| **socket == handed.key)
                .map(|(key, _)| key.clone());
            // A daemon before this one may have answered it.
            let key = known.into_iter().next().unwrap_or_else(|| format!("{}#0", handed.key));
            // Nobody before this daemon has used it.
            self.workers.sharing.last = (self.workers.sharing.last + 1).max(clock::monotonic().0 / 1_000);
            let number = self.workers.sharing.last;
            let wire = self.handles.get(&run).and_then(|handle| handle.wire.as_ref());
            let line = message::new_connection(&key, number);
            if wire.is_some_and(|wire| wire.say(line, Some(Arc::clone(&handed.connection)))) {
                self.workers.sharing.handed.insert(run, (number, handed));
                return Ok(());
            }
        }
        Err(handed)
    }

    /// No worker takes it: it is passed on as bytes.
    fn serve_elsewhere(&mut self, handed: Handed) {
        match Arc::try_unwrap(handed.connection) {
            Ok(connection) => self.pass_on(handed.app, &handed.key, handed.slot, connection),
            Err(shared) => {
                if let Ok(copy) = shared.try_clone() {
                    self.pass_on(handed.app, &handed.key, handed.slot, copy);
                }
            }
        }
    }

    /// A worker's answer. One that is free again gets the next connection of the queue that the last one came from.
    pub(super) fn connection_answered(&mut self, run: RunId, number: u64, accepted: bool) {
        if self
            .workers
            .sharing
            .handed
            .get(&run)
            .is_none_or(|(known, _)| *known != number)
        {
            return;
        }
        let Some((_, handed)) = self.workers.sharing.handed.remove(&run) else {
            return;
        };
        if !accepted {
            self.hand_on(handed);
            return;
        }
        let Some(queues) = self.worker_queues_of(handed.app, &handed.key) else {
            return;
        };
        let blocked = queues
            .list
            .iter()
            .find(|queue| queue.slot == handed.slot)
            .map(|queue| queue.run);
        let Some(blocked) = blocked else { return };
        let place = (handed.app, handed.key, blocked);
        let is_stuck = self.workers.sharing.watched.get(&place).is_some_and(Watched::is_stuck);
        if is_stuck {
            self.share_out(&queues, handed.slot, blocked);
        }
    }

    /// A worker will not answer any more.
    pub(crate) fn connections_back(&mut self, run: RunId) {
        self.workers.sharing.hung.remove(&run);
        if let Some((_, handed)) = self.workers.sharing.handed.remove(&run) {
            self.hand_on(handed);
        }
    }

    fn hand_on(&mut self, handed: Handed) {
        if let Err(handed) = self.hand(handed) {
            self.serve_elsewhere(handed);
        }
    }

    /// Gives a connection that waited where nobody will accept it to a worker.
    ///
    /// # Errors
    /// None takes it: it is given back.
    pub(crate) fn give_to_worker(
        &mut self,
        app: AppId,
        key: &str,
        slot: Slot,
        connection: OwnedFd,
    ) -> Result<(), OwnedFd> {
        let handed = Handed {
            app,
            key: key.to_owned(),
            slot,
            connection: Arc::new(connection),
            tried: BTreeSet::new(),
        };
        self.hand(handed)
            .or_else(|handed| match Arc::try_unwrap(handed.connection) {
                Ok(connection) => Err(connection),
                // Somebody has it, who could not be told all of it.
                Err(_) => Ok(()),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::Watched;
    use crate::model::time::Moment;

    #[test]
    fn only_a_queue_that_nobody_serves_is_stuck() {
        let looks = |depths: &[u32]| {
            let mut watched = Watched::default();
            depths.iter().map(|depth| watched.look(*depth)).collect::<Vec<_>>()
        };
        assert_eq!(looks(&[1, 1, 1, 1]), [false, false, true, true]);
        assert_eq!(looks(&[1, 3, 3, 9, 0, 1]), [false, false, true, true, false, false]);
        assert_eq!(looks(&[5, 4, 3, 3, 2, 2]), [false; 6]);
        assert_eq!(looks(&[0; 5]), [false; 5]);
    }

    #[test]
    fn a_worker_that_was_blocked_for_long_is_suspected_and_shunned_until_it_has_waited() {
        let mut watched = Watched::default();
        let at = |millis: u64| Moment(millis * 1_000_000);
        for millis in [4, 6, 8, 10] {
            if watched.look(1) {
                watched.see(at(millis), 7);
            }
        }
        assert!(watched.is_stuck() && !watched.is_shunned(), "not for long yet");
        watched.look(0);
        watched.see(at(40), 7);
        assert!(watched.is_shunned());
        watched.look(0);
        watched.see(at(60), 8);
        assert!(
            !watched.is_shunned() && watched.look(1),
            "suspected: the first look says so"
        );
        watched.see(at(62), 8);
        assert!(watched.is_shunned(), "at once");
    }
}
