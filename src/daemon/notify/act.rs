//! Doing what a message asks for.

use std::os::fd::OwnedFd;

use super::message::{Doing, Message, Store, Watchdog};
use crate::daemon::Daemon;
use crate::model::event::EventKind;
use crate::model::names::RunId;
use crate::model::spec::Ready;
use crate::os::clock;
use crate::supervise::run::Phase;
use crate::supervise::{EventDraft, Input};

impl Daemon {
    /// Acts upon a message of a run.
    pub(super) fn act_upon(&mut self, run: RunId, message: Message, fds: Vec<OwnedFd>) {
        // Whatever else it says is said of that process.
        if let Some(pid) = message.main_pid {
            self.main_process(run, pid);
        }
        match message.store {
            Some(Store::Add { name, poll }) => self.store_descriptors(run, &name, poll, fds),
            Some(Store::Remove { name }) => self.remove_descriptors(run, &name),
            None => {}
        }
        if message.status.is_some() || message.trouble.is_some() {
            self.core.hear(run, |said| {
                if let Some(status) = message.status {
                    said.status = status;
                }
                if let Some(trouble) = message.trouble {
                    said.trouble = trouble;
                }
            });
        }
        if let Some(interval) = message.watchdog_interval {
            self.watchdog_changed(run, interval);
        }
        match message.watchdog {
            Some(Watchdog::Alive) => self.heartbeat(run),
            Some(Watchdog::Trigger) => self.watchdog_trigger(run),
            None => {}
        }
        if let Some(time) = message.extend {
            self.input(Input::Extend(run, time));
        }
        match message.doing {
            Some(Doing::Ready) => self.says_ready(run),
            Some(Doing::Reloading) => self.input(Input::Reloading(run)),
            Some(Doing::Stopping) => self.says_stopping(run),
            None => {}
        }
    }

    fn says_ready(&mut self, run: RunId) {
        let starts = self
            .core
            .owner(run)
            .and_then(|app| app.runs.get(&run))
            .is_some_and(|run| matches!(run.phase, Phase::Spawning | Phase::Starting));
        // An app that becomes ready by another rule may still say when it has reloaded.
        let by_this_rule = self.spec_of(run).is_some_and(|spec| spec.ready == Ready::Notify);
        if by_this_rule || !starts {
            self.input(Input::Ready(run));
            // The message is gone: whoever kills this daemon now must find it written.
            self.mail.post(Self::persist);
        }
    }

    fn says_stopping(&mut self, run: RunId) {
        let known = self
            .core
            .owner(run)
            .and_then(|app| app.runs.get(&run))
            .is_none_or(|run| run.said.stopping);
        if !known {
            self.core.hear(run, |said| said.stopping = true);
            self.notice(run, "says that it stops");
        }
    }

    /// Records something about a run that nothing follows from.
    pub(crate) fn notice(&mut self, run: RunId, message: impl Into<String>) {
        let Some(app) = self.core.owner(run) else { return };
        let Some(record) = app.runs.get(&run) else { return };
        let draft = EventDraft {
            kind: EventKind::Notified,
            id: app.id,
            app: app.name().clone(),
            namespace: app.spec().namespace.clone(),
            slot: Some(record.slot),
            pid: record.pid,
            message: message.into(),
            exit: None,
            stderr: Vec::new(),
        };
        let id = app.id;
        let event = self.hub.note(clock::wall(), draft);
        self.publish(id, &event);
    }

    /// The same for what went wrong with a request of a run, once in its life: a program that asks in a loop must not
    /// fill the list of events.
    pub(crate) fn complain(&mut self, run: RunId, message: String) {
        if self.notify.complained.insert(run) {
            self.notice(run, message);
        } else {
            tracing::debug!(%run, "{message}");
        }
    }
}
