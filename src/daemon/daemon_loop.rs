//! The loop itself.

use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::daemon::mail::Letter;
use crate::daemon::{Daemon, sampling};
use crate::keeper::link::{Link, LinkError};
use crate::os::{clock, memory};
use crate::supervise::Input;

/// Letters taken in one go before outputs are performed.
const BATCH: usize = 256;
/// Records of apps are written at once, but not more often than this: a burst of changes is one write. If the
/// daemon dies before, the keeper's labels and its unacknowledged exits say what the record does not.
const WRITE_DELAY: Duration = Duration::from_millis(25);
/// How long exits may wait for their acknowledgement: many share one.
const ACK_DELAY: Duration = Duration::from_millis(500);

/// After this long without anything to do, memory is given back.
const QUIET: Duration = Duration::from_secs(2);

/// Why the loop ended.
#[derive(Debug)]
pub(crate) enum End {
    /// Everything was stopped.
    Left,
    /// The state can be written again; another daemon is to open it.
    Writable,
    /// The keeper is gone.
    KeeperLost(LinkError),
}

impl Daemon {
    /// Goes round until the end.
    pub(crate) async fn go_round(&mut self, letters: &mut UnboundedReceiver<Letter>) -> End {
        let mut samples = interval_at(Instant::now() + sampling::PERIOD, sampling::PERIOD);
        samples.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut quiet_at = Some(Instant::now() + QUIET);
        let mut written_at = Instant::now();
        self.tend_all_demand();
        loop {
            self.perform_all();
            if self.runtime_look() {
                self.perform_all();
            }
            self.tell_service();
            let unwritten = self.core.is_dirty() || self.hub.has_notes();
            match self.keeper.get_mut().flush() {
                Ok(true) => self.notify.lift_barriers(),
                Ok(false) => {}
                Err(error) => return End::KeeperLost(LinkError::Io(error)),
            }
            if self.leaving {
                self.persist();
                return End::Left;
            }
            if self.writable {
                return End::Writable;
            }
            let due = self
                .core
                .poll_timeout()
                .map(|at| Duration::from_nanos(at.0.saturating_sub(clock::monotonic().0)));
            let service_due = self
                .service
                .as_ref()
                .and_then(crate::daemon::service::Service::due)
                .map(|at| Instant::now() + Duration::from_nanos(at.0.saturating_sub(clock::monotonic().0)));
            let wants_write = self.keeper.get_ref().wants_write();
            let has_acks = self.unacked.is_some() && !self.acking;
            let now = Instant::now();
            if unwritten && written_at + WRITE_DELAY <= now {
                self.persist();
                written_at = now;
            }
            let write_at = (self.core.is_dirty() || self.hub.has_notes()).then(|| written_at + WRITE_DELAY);
            tokio::select! {
                biased;
                () = readable(&self.keeper) => {
                    if let Err(error) = self.keeper_receive() {
                        return End::KeeperLost(error);
                    }
                }
                letter = letters.recv() => {
                    let mut next = letter;
                    let mut taken = 0;
                    while let Some(letter) = next {
                        letter(self);
                        taken += 1;
                        next = if taken < BATCH { letters.try_recv().ok() } else { None };
                    }
                }
                () = writable(&self.keeper), if wants_write => {}
                () = tokio::time::sleep(due.unwrap_or_default()), if due.is_some() => self.input(Input::Tick),
                () = until(quiet_at), if quiet_at.is_some() => {
                    memory::settle_soon();
                    quiet_at = None;
                    continue;
                }
                _ = samples.tick(), if self.sampling.is_needed() => {
                    self.sample();
                    if !self.sampling.is_needed() {
                        quiet_at = Some(Instant::now() + QUIET);
                    }
                    continue;
                }
                () = until(write_at), if write_at.is_some() => {}
                // Told at the top; no reason to stay awake for.
                () = until(service_due), if service_due.is_some() => continue,
                () = tokio::time::sleep(ACK_DELAY), if has_acks => self.acknowledge(),
            }
            quiet_at = Some(Instant::now() + QUIET);
        }
    }
}

/// Until there is something to read. The readiness is cleared first: whoever calls this reads until there is
/// nothing more, so nothing that arrives later is missed.
async fn readable(link: &AsyncFd<Link>) {
    if let Ok(mut guard) = link.readable().await {
        guard.clear_ready();
    }
}

async fn until(at: Option<Instant>) {
    if let Some(at) = at {
        tokio::time::sleep_until(at).await;
    }
}

async fn writable(link: &AsyncFd<Link>) {
    if let Ok(mut guard) = link.writable().await {
        guard.clear_ready();
    }
}
