//! The heartbeat: an instance says `WATCHDOG=1` before its time is over.

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::daemon::health::{Finder, Vital};
use crate::model::duration::Millis;

/// Waits for heartbeats until it is aborted. Every value that is sent is one; it says how long until the next may
/// take; after zero none is expected.
pub(super) async fn listen(finder: Finder, mut beats: watch::Receiver<Millis>) {
    let mut silent = false;
    loop {
        let period = *beats.borrow_and_update();
        if silent {
            silent = false;
            finder.post(Vital::Watchdog, Ok(()));
        }
        let due = Instant::now() + period.to_std();
        tokio::select! {
            heard = beats.changed() => if heard.is_err() { return },
            () = sleep_until(due), if period > Millis::ZERO => {
                silent = true;
                finder.post(Vital::Watchdog, Err(format!("no WATCHDOG=1 for {period}")));
                if beats.changed().await.is_err() {
                    return;
                }
            }
        }
    }
}
