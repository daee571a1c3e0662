//! What a daemon does besides under `clmgr runtime`: app output on the standard streams, and the end.
//!
//! ```text
//!  first daemon ─► the saved apps are forgotten: the command line is what is wanted
//!  Applied ─► from now on:
//!     every app has ended for good, by itself ─► leave with the only instance's code, or 0 or 1
//!     a circuit opens and --exit-on-error     ─► stop the others, leave with 1
//!  Terminate ─► stop everything, leave with 0, or 1 if somebody had to be killed
//! ```
//!
//! What is to outlive this daemon is kept by the keeper as named descriptors: the two streams, and two marks.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::api::health::{HealthReply, NotReady};
use crate::daemon::hub::Hub;
use crate::daemon::recover::Table;
use crate::daemon::voice::Voice;
use crate::daemon::{Daemon, http};
use crate::keeper::protocol::ToKeeper;
use crate::keeper::{ERR, OUT};
use crate::logs::pump::Pump;
use crate::logs::sink::{ConsoleSink, Sink};
use crate::model::event::{Event, EventKind};
use crate::model::exit::{Exit, ExitStatus};
use crate::model::logspec::{LogSpec, LogTarget, MinFree, Rotation, Stream};
use crate::model::runtime::{Output, RUNTIME_VAR, RuntimeSpec};
use crate::model::size::Bytes;
use crate::model::state::State;
use crate::os::console::Console;
use crate::store::{Change, LoadedState, Store};
use crate::supervise::Command;
use crate::supervise::app::App;

/// The mark that the saved apps were forgotten.
const BEGUN: &str = "runtime/begun";
/// The mark that everything was started.
const APPLIED: &str = "runtime/applied";
/// Everything that the keeper holds for us.
pub(crate) const NAMES: [&str; 4] = [OUT, ERR, BEGUN, APPLIED];

/// What stands before the lines of an app, by its number.
const COLOURS: [u8; 6] = [36, 32, 33, 35, 34, 31];

/// What is kept in a file besides, for `clmgr logs`: containers have little room, and their log is elsewhere.
const ASIDE: Rotation = Rotation {
    size: Some(Bytes(1 << 20)),
    every: None,
    keep: 1,
    total: None,
    compress: false,
    max_age: None,
    min_free: MinFree::Off,
};

/// How this daemon is a runtime.
#[derive(Debug)]
pub(crate) struct Runtime {
    spec: RuntimeSpec,
    held: BTreeMap<String, Arc<OwnedFd>>,
    applied: bool,
    /// Everything is being stopped, to leave with this.
    ending: Option<u8>,
    /// Somebody did not stop in time.
    killed: bool,
}

/// What our environment says, if this is a runtime.
pub(crate) fn asked() -> Option<RuntimeSpec> {
    RuntimeSpec::from_text(&std::env::var(RUNTIME_VAR).ok()?)
}

impl Runtime {
    /// Joins what the keeper holds, and forgets the saved apps if no daemon of this runtime has done so yet.
    pub(crate) async fn begin(table: &mut Table, store: &Store, state: &mut LoadedState) -> Option<Self> {
        let runtime = Self::join(std::mem::take(&mut table.runtime))?;
        if !runtime.held.contains_key(BEGUN) {
            forget(store, state).await;
        }
        Some(runtime)
    }

    /// `None` if the keeper holds no streams: then nobody is to see anything.
    fn join(held: BTreeMap<String, OwnedFd>) -> Option<Self> {
        let spec = asked()?;
        if !held.contains_key(OUT) || !held.contains_key(ERR) {
            return None;
        }
        Some(Self {
            spec,
            applied: held.contains_key(APPLIED),
            held: held.into_iter().map(|(name, fd)| (name, Arc::new(fd))).collect(),
            ending: None,
            killed: false,
        })
    }

    /// Sends a stream of an app to ours, unless it has a file of its own or `log_to` says something else.
    pub(crate) fn join_sink(&self, sink: &mut Sink, app: &App, logs: &LogSpec, stream: Stream, several: bool) {
        let named = match stream {
            Stream::Out => logs.out_file.is_some(),
            Stream::Err => logs.error_file.is_some(),
        };
        let asked = logs.targets.contains(&LogTarget::Stdout);
        if !asked && (named || !logs.targets.is_empty()) {
            return;
        }
        let prefixed = match self.spec.output {
            Output::Auto => several,
            Output::Raw | Output::Json => false,
            Output::Prefix => true,
        };
        let prefix = if prefixed {
            prefix(app, sink.origin.slot, self.spec.colour)
        } else {
            Vec::new()
        };
        sink.console = Some(ConsoleSink {
            prefix,
            json: self.spec.output == Output::Json,
        });
        if sink.rotate == Rotation::default() {
            sink.rotate = ASIDE;
        }
    }
}

/// The saved apps are not what is wanted any more.
async fn forget(store: &Store, state: &mut LoadedState) {
    let ids = state.apps.iter().map(|row| row.id).collect();
    let (sender, done) = oneshot::channel();
    store.commit(
        vec![Change::DeleteApps(ids)],
        Box::new(move |result| drop(sender.send(result))),
    );
    if let Ok(Err(error)) = done.await {
        // They are not started all the same.
        tracing::error!("the saved apps cannot be forgotten: {error}");
    }
    state.apps.clear();
    state.runtime.clear();
}

/// Gives the streams to the pump, and events a voice.
pub(crate) fn open(runtime: Option<&Runtime>, pump: &Pump, hub: &mut Hub) {
    let Some(runtime) = runtime else { return };
    for (name, stream) in [(OUT, Stream::Out), (ERR, Stream::Err)] {
        if let Some(fd) = runtime.held.get(name).and_then(|fd| fd.try_clone().ok()) {
            pump.console(stream, Console::new(fd));
        }
    }
    hub.speak(Voice::new(pump.clone(), runtime.spec.output == Output::Json));
}

fn prefix(app: &App, slot: u32, colour: bool) -> Vec<u8> {
    let name = app.name();
    if !colour {
        return format!("{name}:{slot} | ").into_bytes();
    }
    let number = COLOURS.get(app.id.0 as usize % COLOURS.len()).copied().unwrap_or(36);
    format!("\x1b[{number}m{name}:{slot} |\x1b[0m ").into_bytes()
}

/// What a finished process tells the world through us.
const fn code(exit: Option<Exit>) -> u8 {
    match exit {
        Some(Exit {
            status: ExitStatus::Code(code),
            ..
        }) if code >= 0 && code <= 255 => code.to_le_bytes()[0],
        Some(Exit {
            status: ExitStatus::Signal(signal),
            ..
        }) if signal > 0 && signal < 128 => 128 + signal.to_le_bytes()[0],
        Some(_) | None => 1,
    }
}

/// What to leave with when all apps have ended for good; `None` while one of them has not.
fn over<'a>(apps: impl Iterator<Item = &'a App>) -> Option<u8> {
    let mut codes = Vec::new();
    let mut well = true;
    for app in apps {
        for slot in app.visible_slots() {
            let exit = app.slots.get(slot as usize).and_then(|record| record.last_exit);
            match app.slot_state(slot) {
                State::Completed => {
                    let good = &app.spec().restart.stop_exit_codes;
                    let expected = |exit: Exit| {
                        exit.is_success() || matches!(exit.status, ExitStatus::Code(code) if good.contains(&code))
                    };
                    well &= exit.is_some_and(expected);
                }
                State::Errored if app.next_deadline().is_none() => well = false,
                State::Errored
                | State::Waiting
                | State::Starting
                | State::Online
                | State::Unhealthy
                | State::Reloading
                | State::Stopping
                | State::Stopped
                | State::Backoff => return None,
            }
            codes.push(code(exit));
        }
    }
    match codes.as_slice() {
        [] => None,
        [only] => Some(*only),
        _ => Some(u8::from(!well)),
    }
}

impl Daemon {
    /// Leaves a mark with the keeper that outlives us, and gives it everything it is to hold.
    fn runtime_mark(&mut self, mark: &str) {
        let Some(runtime) = &mut self.runtime else { return };
        let Some(fd) = runtime.held.get(ERR).map(Arc::clone) else {
            return;
        };
        if runtime.held.insert(mark.to_owned(), Arc::clone(&fd)).is_none() {
            self.keeper_send(&ToKeeper::Store { name: mark.to_owned() }, vec![fd]);
        }
    }

    /// The doors are open: nobody forgets anything any more.
    pub(crate) fn runtime_begun(&mut self) {
        self.runtime_mark(BEGUN);
        if let Some(address) = self.runtime.as_ref().and_then(|runtime| runtime.spec.health) {
            tokio::spawn(http::serve_health(address, self.mail.clone()));
        }
    }

    /// Everything was started.
    pub(crate) fn runtime_applied(&mut self) {
        if let Some(runtime) = &mut self.runtime {
            runtime.applied = true;
        }
        self.runtime_mark(APPLIED);
    }

    /// For a new keeper.
    pub(crate) fn runtime_hand_over(&mut self) {
        let held = self.runtime.as_ref().map(|runtime| runtime.held.clone());
        for (name, fd) in held.into_iter().flatten() {
            self.keeper_send(&ToKeeper::Store { name }, vec![fd]);
        }
    }

    /// Sees, after every round, whether this is the end; true if it is, and something is to be performed.
    pub(crate) fn runtime_look(&mut self) -> bool {
        let Some(runtime) = &self.runtime else { return false };
        if !runtime.applied || runtime.ending.is_some() || self.core.apps.values().any(|app| app.draining) {
            return false;
        }
        let tripped = |app: &&App| app.wanted_slots().any(|slot| app.slot_state(slot) == State::Errored);
        let broken = self.core.apps.values().find(tripped).map(|app| app.name().clone());
        if let Some(app) = broken.filter(|_| runtime.spec.exit_on_error) {
            self.runtime_end(1, &format!("the circuit of {app} is open (--exit-on-error)"));
        } else if let Some(code) = over(self.core.apps.values()) {
            self.runtime_end(code, "everything has ended");
        } else {
            return false;
        }
        true
    }

    fn runtime_end(&mut self, code: u8, why: &str) {
        if let Some(runtime) = &mut self.runtime {
            runtime.ending = Some(code);
        }
        self.runtime_say(&format!("{why}; leaving with code {code}"));
        self.command(Command::Shutdown, Self::leave);
    }

    fn runtime_say(&self, text: &str) {
        self.hub.say(text);
    }

    /// The keeper was asked to end.
    pub(crate) fn runtime_stopping(&self) {
        self.runtime_say("stopping everything");
    }

    /// Notes what decides the exit code.
    pub(crate) fn runtime_notes(&mut self, event: &Event) {
        if let Some(runtime) = &mut self.runtime
            && event.kind == EventKind::Killed
        {
            runtime.killed = self.core.apps.values().any(|app| app.draining);
        }
    }

    /// The exit code, just before everything ends.
    pub(crate) fn runtime_outcome(&mut self) {
        let Some(runtime) = &self.runtime else { return };
        let code = runtime.ending.unwrap_or(u8::from(runtime.killed));
        self.keeper_send(&ToKeeper::Outcome { code }, Vec::new());
    }

    /// `health`.
    pub(crate) fn health(&self) -> HealthReply {
        let not_ready: Vec<NotReady> = self
            .core
            .apps
            .values()
            .flat_map(|app| app.wanted_slots().map(move |slot| (app, slot, app.slot_state(slot))))
            .filter(|(_, _, state)| !matches!(state, State::Online | State::Reloading | State::Completed))
            .map(|(app, slot, state)| NotReady {
                app: app.name().clone(),
                slot,
                state,
            })
            .collect();
        let starting = self.runtime.as_ref().is_some_and(|runtime| !runtime.applied);
        HealthReply {
            ready: not_ready.is_empty() && !starting && !self.leaving,
            starting,
            not_ready,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::code;
    use crate::model::exit::{Exit, ExitStatus};

    #[test]
    fn codes_are_those_of_a_shell() {
        assert_eq!(code(Some(Exit::bare(ExitStatus::Code(7)))), 7);
        assert_eq!(code(Some(Exit::bare(ExitStatus::Code(255)))), 255);
        assert_eq!(code(Some(Exit::bare(ExitStatus::Signal(9)))), 137);
        assert_eq!(code(Some(Exit::bare(ExitStatus::Unknown))), 1);
        assert_eq!(code(None), 1);
    }
}
