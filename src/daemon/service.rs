//! What a service manager is told: that the apps were started, how they are, that everything here is alive, and
//! how long stopping may take. The keeper passes it on. Without a service manager nothing here happens, and no
//! timer runs.

use crate::daemon::Daemon;
use crate::keeper::SERVICE_VAR;
use crate::keeper::protocol::ToKeeper;
use crate::model::duration::Millis;
use crate::model::state::State;
use crate::model::time::Moment;
use crate::os::clock;
use crate::supervise::app::App;

/// How long apps may take to be started before the start-up of the machine goes on without them.
const PATIENCE: Millis = Millis(60_000);
/// Changes of state within this time are told as one.
const STATUS_DELAY: Millis = Millis(500);
/// What stopping may take besides the time that apps are given: sweeping, writing, leaving.
const STOP_MARGIN: Millis = Millis(15_000);

/// What it was told already.
#[derive(Debug)]
pub(crate) struct Service {
    /// Half the watchdog's interval.
    watchdog: Option<Millis>,
    ready: bool,
    /// The apps are waited for until then.
    ready_by: Moment,
    status: String,
    /// When to tell the status again.
    status_at: Option<Moment>,
    /// When to give the next sign of life.
    sign_at: Option<Moment>,
}

impl Service {
    /// The keeper says whether there is a service manager.
    pub(crate) fn from_environment(now: Moment) -> Option<Self> {
        let interval: u64 = std::env::var(SERVICE_VAR).ok()?.parse().ok()?;
        let watchdog = (interval > 0).then_some(Millis(interval / 2));
        Some(Self {
            watchdog,
            ready: false,
            ready_by: now.after(PATIENCE),
            status: String::new(),
            status_at: None,
            sign_at: watchdog.map(|_| now),
        })
    }

    /// When [`Daemon::tell_service`] has something to do even if nothing happens.
    pub(crate) fn due(&self) -> Option<Moment> {
        let ready_by = (!self.ready).then_some(self.ready_by);
        [ready_by, self.status_at, self.sign_at].into_iter().flatten().min()
    }

    /// Something happened to an app.
    pub(crate) fn changed(&mut self, now: Moment) {
        self.status_at.get_or_insert(now.after(STATUS_DELAY));
    }
}

impl Daemon {
    /// Tells what is due. Called whenever the loop goes round.
    pub(crate) fn tell_service(&mut self) {
        let now = clock::monotonic();
        let Some(service) = &self.service else { return };
        if !service.ready && (service.ready_by <= now || self.core.apps.values().all(is_started)) {
            self.ready_now();
        }
        let Some(service) = &mut self.service else { return };
        if service.sign_at.is_some_and(|at| at <= now) {
            service.sign_at = None;
            let mail = self.mail.clone();
            // The store's thread answers, the loop takes the answer, the keeper passes it on: all of them live. That
            // a disk is full is no reason to end any of them.
            self.store.write(Box::new(move |_| mail.post(Self::give_sign_of_life)));
        }
        if service.status_at.is_some_and(|at| at <= now) {
            service.status_at = None;
            let status = summary(self.core.apps.values().map(|app| app.state()));
            if service.status != status {
                let text = format!("STATUS={status}");
                service.status = status;
                self.notify_service(text);
            }
        }
    }

    fn ready_now(&mut self) {
        let status = summary(self.core.apps.values().map(|app| app.state()));
        let text = format!("READY=1\nSTATUS={status}");
        if let Some(service) = &mut self.service {
            (service.ready, service.status) = (true, status);
        }
        self.notify_service(text);
    }

    fn give_sign_of_life(&mut self) {
        self.notify_service("WATCHDOG=1".to_owned());
        if let Some(service) = &mut self.service {
            service.sign_at = service.watchdog.map(|half| clock::monotonic().after(half));
        }
    }

    /// The apps are being stopped, which takes as long as the slowest of them may take.
    pub(crate) fn tell_stopping(&mut self) {
        if self.service.is_none() {
            return;
        }
        let longest = self.core.apps.values().flat_map(|app| {
            app.runs.values().map(|run| {
                let stop = &app.spec_of(run).stop;
                let twice = u64::from(!stop.pre_stop.is_empty()) + 1;
                stop.kill_timeout.0.saturating_mul(twice)
            })
        });
        let micros = longest
            .max()
            .unwrap_or(0)
            .saturating_add(STOP_MARGIN.0)
            .saturating_mul(1_000);
        self.notify_service(format!(
            "STOPPING=1\nSTATUS=stopping the apps\nEXTEND_TIMEOUT_USEC={micros}"
        ));
    }

    fn notify_service(&mut self, text: String) {
        self.keeper_send(&ToKeeper::Notify { text }, Vec::new());
    }
}

/// Each of its instances that is wanted was started, or will not be for now.
fn is_started(app: &App) -> bool {
    !app.checking
        && app.wanted_slots().all(|slot| match app.slot_state(slot) {
            State::Starting => app.current(slot).is_some_and(|run| run.pid.is_some()),
            State::Stopped => false,
            State::Waiting
            | State::Online
            | State::Unhealthy
            | State::Reloading
            | State::Stopping
            | State::Backoff
            | State::Errored
            | State::Completed => true,
        })
}

/// Such as `12 apps online, 1 errored`.
fn summary(states: impl Iterator<Item = State>) -> String {
    const ORDER: [State; 10] = [
        State::Online,
        State::Starting,
        State::Reloading,
        State::Waiting,
        State::Unhealthy,
        State::Backoff,
        State::Errored,
        State::Completed,
        State::Stopping,
        State::Stopped,
    ];
    let mut counts = [0; ORDER.len()];
    for state in states {
        if let Some((_, count)) = ORDER.iter().zip(&mut counts).find(|(known, _)| **known == state) {
            *count += 1;
        }
    }
    let all: u32 = counts.iter().sum();
    let told = ORDER
        .iter()
        .zip(counts)
        .filter(|(state, count)| *count > 0 || **state == State::Online);
    let parts: Vec<String> = told
        .enumerate()
        .map(|(at, (state, count))| match (at, count) {
            (0, 1) => format!("1 app {state}"),
            (0, count) => format!("{count} apps {state}"),
            (_, count) => format!("{count} {state}"),
        })
        .collect();
    if all == 0 {
        "no apps".to_owned()
    } else {
        parts.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::summary;
    use crate::model::state::State;

    #[test]
    fn sums_up() {
        let text = |states: &[State]| summary(states.iter().copied());
        assert_eq!(text(&[]), "no apps");
        assert_eq!(text(&[State::Online]), "1 app online");
        assert_eq!(text(&[State::Stopped]), "0 apps online, 1 stopped");
        assert_eq!(
            text(&[State::Errored, State::Online, State::Online, State::Backoff]),
            "2 apps online, 1 backoff, 1 errored"
        );
    }
}
