//! Looking at the queues of one instance, cheaply and rarely as long as nobody waits.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::daemon::Daemon;
use crate::daemon::health::stall::{Company, Look, Stall};
use crate::daemon::health::{Finder, Vital};
use crate::model::duration::Millis;
use crate::model::names::RunId;
use crate::os::{clock, procfs, queue};

/// Looks after which the sockets are asked for again: a worker may listen on another one meanwhile.
const ASK_AGAIN: u32 = 16;

/// A socket whose queue is watched.
#[derive(Debug)]
struct Watched {
    /// As it was written: `0.0.0.0:3000`, `unix:/run/api.sock`.
    address: String,
    /// Not ours: a watch must not keep open what the manager closes.
    socket: Weak<OwnedFd>,
    company: Company,
    stall: Stall,
}

/// Whose queues are looked at.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub run: RunId,
    pub pid: i32,
    /// Whose children its orphans are.
    pub reaper: i32,
    /// What they carry in their environment.
    pub mark: Arc<[u8]>,
    pub patience: Millis,
}

/// When to look. Looks at instances with the same `hang_timeout` fall together, so that many cost one wake-up.
#[derive(Clone, Copy, Debug)]
struct Steps {
    rare: Duration,
    dense: Duration,
}

impl Steps {
    fn new(patience: Millis) -> Self {
        Self {
            rare: Duration::from_millis((patience.0 / 4).clamp(50, 30_000)),
            dense: Duration::from_millis((patience.0 / 8).clamp(50, 2000)),
        }
    }
}

/// Until the next multiple of a step.
fn until_next(step: Duration) -> Duration {
    let step = u64::try_from(step.as_nanos()).unwrap_or(u64::MAX).max(1);
    Duration::from_nanos(step - clock::monotonic().0 % step)
}

impl Daemon {
    /// The queues that one instance is to serve; `None` when it is gone.
    fn queues(&self, run: RunId, patience: Millis) -> Option<Vec<Watched>> {
        let handle = self.handles.get(&run)?;
        let app = self.core.apps.get(&handle.app)?;
        let (others, successor) = (app.desired > 1, app.runs_in(handle.slot).count() > 1);
        let watched = self.queues_of(run).into_iter().map(|queue| Watched {
            address: queue.address.to_string(),
            socket: Arc::downgrade(&queue.socket),
            company: match (others, successor || (others && queue.is_common)) {
                (_, true) => Company::SameSocket,
                (true, false) => Company::SamePort,
                (false, false) => Company::Alone,
            },
            stall: Stall::new(patience),
        });
        Some(watched.collect())
    }
}

impl Watched {
    /// The socket, if somebody waits in its queue.
    fn waits(&self) -> Option<Arc<OwnedFd>> {
        let waits = |socket: &Arc<OwnedFd>| queue::depth(socket).is_some_and(|depth| depth > 0);
        self.socket.upgrade().filter(waits)
    }
}

impl Subject {
    /// The sockets that its processes hold.
    fn held(&self) -> Option<BTreeSet<u64>> {
        queue::held_sockets(self.pid, self.reaper, &self.mark)
    }
}

/// What a look has shown.
struct Seen {
    sockets: Vec<Watched>,
    /// Where nothing is accepted.
    stalled: Option<String>,
    /// The sockets that the processes hold, as far as it was necessary to know.
    held: Option<BTreeSet<u64>>,
}

/// Looks until it is aborted.
pub(super) async fn watch(finder: Finder, subject: Subject) {
    let steps = Steps::new(subject.patience);
    let (mut sockets, mut looks) = (Vec::new(), ASK_AGAIN);
    // What the instance held when it was found to be hung.
    let mut hung: Option<BTreeSet<u64>> = None;
    loop {
        let stale = sockets.iter().any(|one: &Watched| one.socket.strong_count() == 0);
        if (stale || sockets.is_empty() || looks >= ASK_AGAIN) && !refresh(&finder, &subject, &mut sockets).await {
            return;
        }
        looks = if looks >= ASK_AGAIN { 0 } else { looks + 1 };
        let suspected = is_suspicious(&sockets);
        tokio::time::sleep(until_next(if suspected { steps.dense } else { steps.rare })).await;
        if !suspected && hung.is_none() && sockets.iter().all(|one| one.waits().is_none()) {
            continue;
        }
        // Lists of descriptors can be long, and the loop has other things to do.
        let (whose, with_held) = (subject.clone(), hung.is_some());
        let Ok(seen) = tokio::task::spawn_blocking(move || look(sockets, &whose, with_held)).await else {
            return;
        };
        sockets = seen.sockets;
        if !suspected && is_suspicious(&sockets) && !refresh(&finder, &subject, &mut sockets).await {
            return;
        }
        match (seen.stalled, &hung) {
            (Some(address), None) => {
                finder.post(Vital::Queue, Err(reason(&address, &subject)));
                hung = seen.held;
            }
            // That nobody waits any more may be another's work; that it has a new socket is its own.
            (_, Some(before)) => {
                if seen.held.is_some_and(|held| !held.is_subset(before)) {
                    finder.post(Vital::Queue, Ok(()));
                    hung = None;
                }
            }
            (None, None) => {}
        }
    }
}

fn is_suspicious(sockets: &[Watched]) -> bool {
    sockets.iter().any(|one| one.stall.is_suspicious())
}

/// Asks for the sockets and who else serves them; false when the instance is gone.
async fn refresh(finder: &Finder, subject: &Subject, sockets: &mut Vec<Watched>) -> bool {
    let Subject { run, patience, .. } = *subject;
    let Some(Some(found)) = finder.mail.ask(move |daemon| daemon.queues(run, patience)).await else {
        return false;
    };
    let mut before = std::mem::replace(sockets, found);
    for one in sockets {
        if let Some(known) = before.iter_mut().find(|known| known.socket.ptr_eq(&one.socket)) {
            std::mem::swap(&mut one.stall, &mut known.stall);
        }
    }
    true
}

/// Looks at all.
fn look(mut sockets: Vec<Watched>, subject: &Subject, with_held: bool) -> Seen {
    let (mut listed, mut stalled) = (None, None);
    for one in &mut sockets {
        let Some(queue) = one.waits().and_then(|socket| queue::queue(&socket)) else {
            one.stall.clear();
            continue;
        };
        // After the queue: whatever was taken from it by then is in the list, unless it is closed.
        let listed = listed.get_or_insert_with(|| subject.held());
        let Some(held) = listed.clone() else {
            one.stall.clear();
            continue;
        };
        let look = Look {
            queue,
            held,
            company: one.company,
        };
        if one.stall.see(clock::monotonic(), &look) {
            stalled.get_or_insert_with(|| one.address.clone());
        }
    }
    if with_held {
        listed.get_or_insert_with(|| subject.held());
    }
    Seen {
        sockets,
        stalled,
        held: listed.flatten(),
    }
}

fn reason(address: &str, subject: &Subject) -> String {
    let stopped = procfs::stat(subject.pid).is_some_and(|stat| matches!(stat.state, b'T' | b't'));
    let why = if stopped { "; its process is stopped" } else { "" };
    format!(
        "hung: connections have waited for {} on {address} and none was accepted{why}",
        subject.patience
    )
}

#[cfg(test)]
mod tests {
    use super::Steps;
    use crate::model::duration::Millis;
    use std::time::Duration;

    #[test]
    fn looks_are_dense_enough_for_any_patience_and_never_too_dense() {
        for (patience, rare, dense) in [(1000, 250, 125), (10_000, 2500, 1250), (600_000, 30_000, 2000)] {
            let steps = Steps::new(Millis(patience));
            assert_eq!(
                (steps.rare, steps.dense),
                (Duration::from_millis(rare), Duration::from_millis(dense))
            );
        }
    }
}
