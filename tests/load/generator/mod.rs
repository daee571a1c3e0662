//! The load: requests at a rate, each checked, none tried again.
//!
//! Open-loop: when a request is due does not depend on how fast the ones before it were answered, and its latency
//! counts from then. One thread, one poller, a few hundred connections.

mod answer;
mod connection;
mod engine;
pub(crate) mod tally;
pub(crate) mod trial;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use clmgr::model::duration::Millis;
use clmgr::os::{clock, poll};
use tally::Tally;

/// No answer within this is a timeout.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// How the requests come.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// So many a second on average, at random moments.
    Open(f64),
    /// Each of so many connections sends the next one as soon as it has an answer.
    Closed,
}

/// What is asked, and how.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Where, on 127.0.0.1.
    pub(crate) port: u16,
    /// Connections are kept for more requests.
    pub(crate) keep_alive: bool,
    /// At most so many connections at once.
    pub(crate) connections: usize,
    /// How many requests of 100 take 40 ms.
    pub(crate) slow: u64,
    /// How fast.
    pub(crate) pace: Pace,
    /// Where the random numbers come from.
    pub(crate) seed: u64,
}

/// What can be seen of a load while it is on.
#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    answered: AtomicU64,
    lost: AtomicU64,
}

/// A load that is on.
#[derive(Debug)]
pub(crate) struct Load {
    shared: Arc<Shared>,
    thread: JoinHandle<anyhow::Result<Tally>>,
}

impl Load {
    /// Begins.
    pub(crate) fn begin(plan: Plan) -> Self {
        let shared = Arc::new(Shared::default());
        let thread = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || engine::run(&plan, &shared)
        });
        Self { shared, thread }
    }

    /// Good answers so far.
    pub(crate) fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::Acquire)
    }

    /// Waits until so many more requests were answered (or failed: whoever counts sees that): the load is on.
    pub(crate) fn goes_on(&self, more: u64) {
        let count = || self.answered() + self.shared.lost.load(Ordering::Acquire);
        let begin = count();
        while count() < begin + more && !self.thread.is_finished() {
            poll::pause(Millis(2));
        }
    }

    /// Begins nothing more, waits for what is under way, and gives the sum.
    pub(crate) fn end(self) -> anyhow::Result<Tally> {
        self.shared.stop.store(true, Ordering::Release);
        self.thread
            .join()
            .map_err(|_panic| anyhow::anyhow!("the load generator panicked"))?
    }
}

/// Requests a second that are carried at most: a short run in which nobody waits.
pub(crate) fn calibrate(port: u16, seed: u64, time: Millis) -> anyhow::Result<f64> {
    let begin = clock::monotonic();
    let load = Load::begin(Plan {
        port,
        keep_alive: false,
        connections: 16,
        slow: 0,
        pace: Pace::Closed,
        seed,
    });
    poll::pause(time);
    let answered = load.answered();
    let took = clock::monotonic().since(begin).0.max(1);
    let tally = load.end()?;
    anyhow::ensure!(
        tally.losses.is_empty(),
        "requests fail although nothing happens: {:?}",
        tally.losses.first()
    );
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let rate = answered as f64 * 1000.0 / took as f64;
    Ok(rate)
}
