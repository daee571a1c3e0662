//! The keeper as a service: what the service manager keeps for it, and the proof that both halves live.
//!
//! ```text
//!  daemon ── Notify "WATCHDOG=1" ──► keeper ──► service manager      at half the interval
//!  daemon silent for 3/4 of the interval ──► the keeper kills it, says WATCHDOG=1 once, starts another
//!  the next one silent, too, or the keeper itself hangs ──► the service manager ends the keeper; another one starts
//! ```
//!
//! Descriptors that are stored by name, and those of apps that nobody can open again (the ends of their input and
//! of their channel), are also given to the service manager, as they come. It hands them to the next keeper,
//! whatever became of this one.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::children::Child;
use super::protocol::Held;
use crate::model::duration::Millis;
use crate::model::time::Moment;
use crate::os::service::{self, NOTIFY_SOCKET, Notifier};

/// How long a daemon may take to give its first sign of life; the unit's start may take no longer.
const START: Millis = Millis(120_000);

/// Tells the daemon that a service manager is there: the watchdog's interval in ms, or 0.
pub const SERVICE_VAR: &str = "CLMGR_SERVICE";

/// The way to a service manager, or to nobody.
#[derive(Debug, Default)]
pub(super) struct Service {
    notifier: Option<Notifier>,
    watchdog: Option<Millis>,
    /// The daemon was started then.
    started: Option<Moment>,
    /// Its last sign of life.
    sign: Option<Moment>,
    /// This or an earlier daemon gave a sign since the last one was killed.
    proven: bool,
}

impl Service {
    /// By the environment. A socket that cannot be reached is none.
    pub(super) fn from_environment() -> Self {
        let notifier = std::env::var_os(NOTIFY_SOCKET).and_then(|address| Notifier::connect(&address).ok());
        Self {
            watchdog: notifier.as_ref().and_then(|_| service::watchdog()),
            notifier,
            ..Self::default()
        }
    }

    /// The value of [`SERVICE_VAR`].
    pub(super) fn variable(&self) -> Option<String> {
        self.notifier.as_ref()?;
        Some(self.watchdog.unwrap_or_default().0.to_string())
    }

    /// Says this.
    pub(super) fn say(&mut self, text: &str, now: Moment) {
        if text.lines().any(|line| line == "WATCHDOG=1") {
            (self.sign, self.proven) = (Some(now), true);
        }
        self.send(text, None);
    }

    /// Gives away a copy of a descriptor. It is kept even if its other end is closed.
    pub(super) fn store(&mut self, name: &str, fd: &Arc<OwnedFd>) {
        if service::is_name(name) {
            self.send(&format!("FDSTORE=1\nFDNAME={name}\nFDPOLL=0"), Some(Arc::clone(fd)));
        }
    }

    /// Takes it back.
    pub(super) fn remove(&mut self, name: &str) {
        if service::is_name(name) {
            self.send(&format!("FDSTOREREMOVE=1\nFDNAME={name}"), None);
        }
    }

    /// What of a child nobody could open again. Of no use, and forgotten, when its other end is closed.
    pub(super) fn store_child(&mut self, run: u64, child: &Child) {
        for (held, what) in KEPT {
            if let Some(fd) = child.descriptor(held) {
                let text = format!("FDSTORE=1\nFDNAME=run/{run}/{what}");
                self.send(&text, Some(Arc::clone(fd)));
            }
        }
    }

    /// It has ended.
    pub(super) fn remove_child(&mut self, run: u64, child: &Child) {
        for (held, what) in KEPT {
            if child.held().has(held) {
                self.remove(&format!("run/{run}/{what}"));
            }
        }
    }

    fn send(&mut self, text: &str, fd: Option<Arc<OwnedFd>>) {
        if let Some(notifier) = &mut self.notifier {
            notifier.queue(text.as_bytes().to_vec(), fd);
        }
    }

    /// Sends what can be sent; true when nothing waits.
    pub(super) fn flush(&mut self) -> bool {
        self.notifier.as_mut().is_none_or(Notifier::flush)
    }

    /// A daemon was started, or there is none any more.
    pub(super) fn daemon(&mut self, started: Option<Moment>) {
        (self.started, self.sign) = (started, None);
    }

    /// What the next build's keeper is to know: whether this daemon gave a sign of life, and whether one did since
    /// the last was killed.
    pub(super) fn known(&self) -> (bool, bool) {
        (self.sign.is_some(), self.proven)
    }

    /// Goes on with what the keeper of the build before knew. Being replaced took time, in which nobody listened, so
    /// a daemon that gave a sign has a whole interval for the next one.
    pub(super) fn resume(&mut self, (signed, proven): (bool, bool), now: Moment) {
        self.daemon(Some(now));
        (self.sign, self.proven) = (signed.then_some(now), proven);
    }

    /// When the daemon counts as hung.
    pub(super) fn hung_at(&self) -> Option<Moment> {
        let interval = self.watchdog?;
        let started = self.started?;
        Some(
            self.sign
                .map_or(started.after(START), |sign| sign.after(Millis(interval.0 / 4 * 3))),
        )
    }

    /// A hung daemon is killed. Only once in a row the next one gets a whole interval.
    pub(super) fn hung(&mut self) {
        self.daemon(None);
        if std::mem::take(&mut self.proven) {
            self.send("WATCHDOG=1", None);
        }
    }
}

/// The run whose descriptor has this name.
pub(super) fn run_of(name: &str) -> Option<u64> {
    name.strip_prefix("run/")?.split('/').next()?.parse().ok()
}

const KEPT: [(Held, &str); 2] = [(Held::STDIN, "stdin"), (Held::CHANNEL, "channel")];

#[cfg(test)]
mod tests {
    use super::Service;
    use crate::model::duration::Millis;
    use crate::model::time::Moment;
    use crate::os::notify::NotifySocket;
    use crate::os::service::Notifier;

    #[test]
    fn a_hung_daemon_is_forgiven_once() {
        let name = format!("clmgr-watchdog-{}", std::process::id());
        let manager = NotifySocket::bind_abstract(name.as_bytes()).unwrap();
        let mut service = Service {
            notifier: Some(Notifier::connect(format!("@{name}").as_ref()).unwrap()),
            watchdog: Some(Millis(4_000)),
            ..Service::default()
        };
        let heard = |service: &mut Service| {
            assert!(service.flush());
            std::iter::from_fn(|| manager.recv().unwrap()).count()
        };
        let begin = Moment(0);
        assert_eq!(service.hung_at(), None, "nobody to wait for");
        service.daemon(Some(begin));
        assert_eq!(service.hung_at(), Some(begin.after(Millis(120_000))));
        service.say("STATUS=up", begin.after(Millis(10)));
        assert_eq!(service.hung_at(), Some(begin.after(Millis(120_000))), "no sign of life");
        service.say("WATCHDOG=1", begin.after(Millis(10)));
        assert_eq!(service.hung_at(), Some(begin.after(Millis(3_010))));
        assert_eq!(heard(&mut service), 2);
        service.hung();
        assert_eq!((heard(&mut service), service.hung_at()), (1, None));
        service.daemon(Some(begin));
        service.hung();
        assert_eq!(heard(&mut service), 0, "it never proved itself");
        assert_eq!(service.variable().as_deref(), Some("4000"));
        assert_eq!(Service::default().variable(), None);
    }

    #[test]
    fn the_next_build_knows_whether_the_daemon_gave_a_sign_of_life() {
        let fresh = || Service {
            watchdog: Some(Millis(4_000)),
            ..Service::default()
        };
        let now = Moment(0);
        let (mut old, mut new) = (fresh(), fresh());
        old.daemon(Some(now));
        new.resume(old.known(), now);
        assert_eq!(new.hung_at(), Some(now.after(Millis(120_000))), "no sign of life yet");
        old.say("WATCHDOG=1", now);
        let later = now.after(Millis(2_900));
        new.resume(old.known(), later);
        assert_eq!(new.hung_at(), Some(later.after(Millis(3_000))));
        assert_eq!(new.known(), (true, true));
        old.hung();
        new.resume(old.known(), later);
        assert_eq!(new.known(), (false, false));
    }
}
