//! Liveness: whether an instance that became ready goes on to work.
//!
//! ```text
//!   core ── Monitor(run) ──▶ monitor ─┬─ probe task     asks (`health`)                ─┐
//!                                     ├─ watchdog task  waits for WATCHDOG=1           ─┼─▶ vital ─▶ Unhealthy / Healthy
//!                                     └─ hang task      looks at the queues            ─┘
//!   core ── EndMonitor(run), or the run is gone ──▶ the tasks end
//! ```
//!
//! What a task finds goes to the core when it changes, and only then: an instance is unhealthy as long as one of its
//! tasks says so, healthy again when the last has taken it back. What `describe` shows is a snapshot that the probe
//! task publishes. Apps without any of it have no task and cause no wake-up.
//!
//! Nothing is kept: the next daemon begins to monitor what is ready anew, so a heartbeat is due a whole period after
//! it, and failures count from zero.
//!
//! What is to judge one instance must reach that instance. On a port that several have in common a question over
//! loopback IPv4 does (`daemon::ready::network`); where they share one queue, and on sockets of IPv6 alone, any of them
//! may answer. There it takes an address of its own (`{port}` with `increment_var`, `{slot}`), a command that knows
//! `CLMGR_PID` and `CLMGR_SLOT`, its own heartbeat, or its own queue.

mod hang;
mod probe;
mod record;
mod stall;
mod watchdog;

use std::collections::BTreeMap;

use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::api::status::HealthStatus;
use crate::daemon::Daemon;
use crate::daemon::mail::Mail;
use crate::daemon::spawning::MARKER;
use crate::model::duration::Millis;
use crate::model::health::Vitality;
use crate::model::names::RunId;
use crate::model::time::WallTime;
use crate::os::clock;
use crate::supervise::Input;

/// What can be wrong with an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Vital {
    /// It does not answer.
    Probe,
    /// It is not heard.
    Watchdog,
    /// It accepts nothing.
    Queue,
}

/// What the probe task knows.
#[derive(Clone, Debug)]
struct Report {
    state: Vitality,
    answered: Option<WallTime>,
    failures: u32,
    reason: Option<String>,
}

/// The watch over one run.
#[derive(Debug)]
struct Monitor {
    finder: Finder,
    tasks: Vec<AbortHandle>,
    failing: BTreeMap<Vital, String>,
    probe: Option<watch::Receiver<Report>>,
    beats: Option<watch::Sender<Millis>>,
    heard: Option<WallTime>,
}

impl Drop for Monitor {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Monitors(BTreeMap<RunId, Monitor>);

impl Monitors {
    /// Watches a run no more.
    pub(crate) fn end(&mut self, run: RunId) {
        self.0.remove(&run);
    }
}

/// Whoever looks at a run, and how it tells the loop.
#[derive(Clone, Debug)]
struct Finder {
    mail: Mail,
    run: RunId,
    /// Which of the watches over this run it belongs to: what an earlier one found is of no interest any more.
    serial: u64,
}

impl Finder {
    fn post(&self, vital: Vital, verdict: Result<(), String>) {
        let (run, serial) = (self.run, self.serial);
        self.mail.post(move |daemon| {
            if daemon
                .monitors
                .0
                .get(&run)
                .is_some_and(|monitor| monitor.finder.serial == serial)
            {
                daemon.vital(run, vital, verdict);
            }
        });
    }
}

impl Daemon {
    /// Begins to watch a run that is ready.
    pub(crate) fn monitor(&mut self, run: RunId) {
        self.end_monitor(run);
        let (Some(spec), Some(handle)) = (self.spec_of(run), self.handles.get(&run)) else {
            return;
        };
        let pid = handle.pid;
        let finder = Finder {
            mail: self.mail.clone(),
            run,
            serial: clock::monotonic().0,
        };
        let record = self.core.owner(run).and_then(|app| app.runs.get(&run));
        let ready = record.and_then(|record| record.ready).unwrap_or_else(clock::monotonic);
        let period = spec
            .watchdog
            .map(|said| record.and_then(|record| record.watchdog).unwrap_or(said));
        let mut monitor = Monitor {
            finder: finder.clone(),
            tasks: Vec::new(),
            failing: BTreeMap::new(),
            probe: None,
            beats: None,
            heard: None,
        };
        if let Some(health) = &spec.health
            && let Some(question) = self.question(run, health)
        {
            let (sender, receiver) = watch::channel(Report {
                state: Vitality::Starting,
                answered: None,
                failures: 0,
                reason: None,
            });
            monitor.probe = Some(receiver);
            let task = probe::ask_on(
                finder.clone(),
                self.asker(run, &spec),
                health.clone(),
                ready,
                question,
                sender,
            );
            monitor.tasks.push(tokio::spawn(task).abort_handle());
        }
        if let Some(period) = period {
            monitor.watch(period);
        }
        if let Some(patience) = spec.hang_timeout {
            let subject = hang::Subject {
                run,
                pid,
                reaper: self.keeper_pid,
                mark: format!("{MARKER}={}", self.marker(run)).into_bytes().into(),
                patience,
            };
            let task = hang::watch(finder, subject);
            monitor.tasks.push(tokio::spawn(task).abort_handle());
        }
        self.monitors.0.insert(run, monitor);
    }

    /// Stops that.
    pub(crate) fn end_monitor(&mut self, run: RunId) {
        self.monitors.end(run);
    }

    /// `WATCHDOG=1`: the run lives.
    pub(crate) fn heartbeat(&mut self, run: RunId) {
        let Some(monitor) = self.monitors.0.get_mut(&run) else {
            return;
        };
        let Some(beats) = &monitor.beats else { return };
        beats.send_modify(|_| {});
        let first = monitor.heard.replace(clock::wall()).is_none();
        // It may have said of itself that it does not work.
        if first || monitor.failing.contains_key(&Vital::Watchdog) {
            self.vital(run, Vital::Watchdog, Ok(()));
        }
    }

    /// `WATCHDOG_USEC=…`: from now on a run with a `watchdog` says so this often. It is remembered as long as the run
    /// lives.
    pub(crate) fn watchdog_changed(&mut self, run: RunId, period: Millis) {
        if self.spec_of(run).is_none_or(|spec| spec.watchdog.is_none()) {
            return;
        }
        self.core.set_watchdog(run, period);
        let monitor = self.monitors.0.get(&run);
        if let Some(beats) = monitor.and_then(|monitor| monitor.beats.as_ref()) {
            beats.send_replace(period);
        }
    }

    /// `WATCHDOG=trigger`: the run itself says that it does not work.
    pub(crate) fn watchdog_trigger(&mut self, run: RunId) {
        let why = "it said WATCHDOG=trigger".to_owned();
        if self.monitors.0.contains_key(&run) {
            self.vital(run, Vital::Watchdog, Err(why));
        } else {
            self.input(Input::Unhealthy(run, why));
        }
    }

    /// A finding. Of a run that is not watched (any more) nothing is to be found.
    fn vital(&mut self, run: RunId, vital: Vital, verdict: Result<(), String>) {
        let Some(monitor) = self.monitors.0.get_mut(&run) else {
            return;
        };
        let failed = !monitor.failing.is_empty();
        match verdict {
            Err(why) => {
                monitor.failing.insert(vital, why.clone());
                if !failed {
                    self.input(Input::Unhealthy(run, why));
                }
            }
            Ok(()) => {
                monitor.failing.remove(&vital);
                // The first success and the first heartbeat say that it works, whatever a daemon before this one found.
                let first = matches!(vital, Vital::Probe | Vital::Watchdog);
                if monitor.failing.is_empty() && (failed || first) {
                    self.input(Input::Healthy(run));
                }
            }
        }
    }

    /// What is shown of a run. `None` where nothing is watched.
    pub(crate) fn health_of(&self, run: RunId) -> Option<HealthStatus> {
        let monitor = self.monitors.0.get(&run)?;
        let report = monitor.probe.as_ref().map(|report| report.borrow().clone());
        if monitor.tasks.is_empty() {
            return None;
        }
        // What a daemon before this one has found holds until it is taken back.
        let record = self.core.owner(run).and_then(|app| app.runs.get(&run));
        let kept = record.and_then(|record| record.unhealthy.clone());
        let failing = monitor.failing.values().next().cloned().or(kept);
        Some(HealthStatus {
            state: match (&failing, &report) {
                (Some(_), _) => Vitality::Unhealthy,
                (None, Some(report)) => report.state,
                (None, None) => Vitality::Healthy,
            },
            answered: report.as_ref().and_then(|report| report.answered).or(monitor.heard),
            failures: report.as_ref().map_or(0, |report| report.failures),
            reason: failing.or(report.and_then(|report| report.reason)),
        })
    }
}

impl Monitor {
    /// Begins to expect heartbeats.
    fn watch(&mut self, period: Millis) {
        let (sender, receiver) = watch::channel(period);
        self.beats = Some(sender);
        let task = watchdog::listen(self.finder.clone(), receiver);
        self.tasks.push(tokio::spawn(task).abort_handle());
    }
}
