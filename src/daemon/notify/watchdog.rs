//! Signs of life.

use crate::daemon::Daemon;
use crate::model::duration::Millis;
use crate::model::names::RunId;
use crate::supervise::Input;

impl Daemon {
    /// `WATCHDOG=1`: it is alive.
    pub(super) fn heartbeat(&mut self, run: RunId) {
        self.input(Input::Healthy(run));
    }

    /// `WATCHDOG=trigger`: it does not work, and says so.
    pub(super) fn watchdog_trigger(&mut self, run: RunId) {
        self.input(Input::Unhealthy(run, "it has triggered its watchdog".to_owned()));
    }

    /// `WATCHDOG_USEC`: it will give its signs of life at this interval from now on.
    pub(super) fn watchdog_changed(&self, run: RunId, interval: Millis) {
        tracing::debug!(%run, %interval, "another watchdog interval");
    }
}
