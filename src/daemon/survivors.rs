//! Processes of this home that neither the keeper nor the store knows: keeper and daemon died after one was started
//! and before that was written down. They are found by the mark in their environment.
//!
//! | a marked leader | then |
//! |---|---|
//! | its run is being started, or lives, in the app's record | taken over |
//! | no record of it, its place is free and its spec in force | takes the place |
//! | anything else | stopped, and waited for: nothing is started beside it |
//!
//! This costs one pass over `/proc`, beside the opening of the store, and only where it can find something: after a
//! manager that was killed, and in a home without a state, which may have been removed under one. A daemon whose
//! keeper is the one of the last note in [`os::running`](crate::os::running) has everything in that keeper's table,
//! and without a note the last end was an orderly one.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;

use crate::daemon::Daemon;
use crate::daemon::recover::{Table, take_in};
use crate::daemon::spawning::{LEADER, MARKER, PLACE, placed};
use crate::model::duration::Millis;
use crate::model::event::EventKind;
use crate::model::names::{AppId, RunId, Slot};
use crate::model::process::ProcessId;
use crate::os::home::Home;
use crate::os::marked::{self, Marked};
use crate::os::pidfd::{self, Scope};
use crate::os::running::{self, Running};
use crate::os::{clock, poll, procfs};
use crate::store::{LoadedState, RunRow};
use crate::supervise::run::{Generation, Phase, Run};

/// A process may be without its environment if it began this long before the keeper, in clock ticks (2 s).
const NEWBORN: u64 = 200;
/// How long to wait for processes that were killed.
const DEATH: Millis = Millis(2_000);

/// A living process that carries the mark of a run of this home.
#[derive(Debug)]
pub(crate) struct Found {
    run: RunId,
    place: Option<(AppId, Slot, Generation)>,
    leads: bool,
    process: Marked,
}

/// All of them, leaders first.
fn look(tag: &str, since: u64) -> Vec<Found> {
    let prefix = format!("{MARKER}={tag}.");
    let mut all: Vec<Found> = marked::search(prefix.as_bytes(), since)
        .into_iter()
        .filter_map(read)
        .collect();
    all.sort_by_key(|one| (!one.leads, one.run, one.process.start_ticks));
    all
}

fn read(process: Marked) -> Option<Found> {
    let (_, run) = process.value(MARKER)?.rsplit_once('.')?;
    let run = RunId(run.parse().ok()?);
    let leads = process.leads
        && process
            .value(LEADER)
            // Builds before this one did not say who leads.
            .is_none_or(|pid| pid.parse() == Ok(process.pid));
    let place = process.value(PLACE).and_then(placed);
    Some(Found {
        run,
        place,
        leads,
        process,
    })
}

/// A search that runs beside the opening of the store.
#[derive(Debug)]
pub(crate) struct Hunt {
    thread: Option<JoinHandle<Vec<Found>>>,
}

impl Hunt {
    /// Begins one where it can find something. Call it before the state is opened.
    pub(crate) fn begin(home: &Home, tag: &str, keeper: &Running) -> Self {
        let is_needless = match running::read(&home.running()) {
            Some(last) => last == *keeper,
            None => home.db().exists(),
        };
        if is_needless {
            return Self { thread: None };
        }
        let (tag, since) = (tag.to_owned(), keeper.keeper_born.saturating_sub(NEWBORN));
        let thread = std::thread::Builder::new()
            .name("survivors".to_owned())
            .spawn(move || look(&tag, since));
        if let Err(error) = &thread {
            tracing::error!("survivors of an earlier manager cannot be looked for: {error}");
        }
        Self { thread: thread.ok() }
    }

    /// With a state that was damaged all that lives was given a place already, under ids that marks do not know.
    pub(crate) fn unless(self, salvaged: bool) -> Self {
        if salvaged { Self { thread: None } } else { self }
    }

    fn end(self) -> Vec<Found> {
        self.thread.and_then(|thread| thread.join().ok()).unwrap_or_default()
    }
}

/// What was found, and what is to become of it.
#[derive(Debug, Default)]
pub(crate) struct Seated {
    placed: Vec<(Found, AppId, Slot)>,
    strangers: Vec<Found>,
}

/// Gives everybody found a place, or none. Nothing is said about them yet: whoever hears that one instance is well
/// may start the next, so all must sit before.
pub(crate) fn seat(daemon: &mut Daemon, table: &Table, state: &LoadedState, hunt: Hunt) -> Seated {
    let mut seated = Seated::default();
    let mut all = hunt.end();
    if all.is_empty() {
        return seated;
    }
    // A record that says otherwise is believed: the pid was given to a descendant that inherited the variables.
    let recorded: BTreeMap<RunId, &ProcessId> = state.runs.iter().map(|row| (row.run, &row.process)).collect();
    for one in &mut all {
        let contradicts = |process: &&ProcessId| {
            let same = (process.pid, process.start_ticks) == (one.process.pid, one.process.start_ticks);
            process.start_ticks > 0 && !(same && process.boot == daemon.boot)
        };
        one.leads &= !recorded.get(&one.run).is_some_and(contradicts);
    }
    let recorded = state.runs.iter().filter(|row| is_alive(row)).map(|row| row.run);
    let found = all.iter().filter(|one| one.leads).map(|one| one.run);
    let living: BTreeSet<RunId> = recorded.chain(found).collect();
    for found in all {
        let run = found.run;
        if table.has(run) {
            continue;
        }
        let owner = daemon.core.owner(run);
        let known = owner.and_then(|app| Some((app.id, app.runs.get(&run)?)));
        match (known, found.place) {
            // What is left of a run whose leader has ended is swept when that is told.
            (Some((_, record)), _) if !found.leads || record.exit.is_some() => {}
            (Some((app, record)), _) => {
                let slot = record.slot;
                seated.placed.push((found, app, slot));
            }
            (None, Some((app, slot, generation))) => {
                let is_past = run < state.first_run_id;
                if found.leads && is_past && has_room(daemon, table, &living, app, slot, generation, run) {
                    daemon.core.take_over(app, Run::new(run, slot, generation));
                    seated.placed.push((found, app, slot));
                } else {
                    seated.strangers.push(found);
                }
            }
            // Of a build that did not say whose it is.
            (None, None) => {}
        }
    }
    seated
}

/// Takes over those that have a place, and stops the others. With `state_lost` nobody knows any more what belongs
/// here: then nothing is stopped.
pub(crate) fn settle(daemon: &mut Daemon, seated: Seated, kept: &mut BTreeMap<String, OwnedFd>, state_lost: bool) {
    for (found, app, slot) in seated.placed {
        if !daemon.handles.contains_key(&found.run) {
            let (row, fd) = row(daemon, found, app, slot);
            take_in(daemon, &row, fd, kept);
        }
    }
    if seated.strangers.is_empty() {
        return;
    }
    if state_lost {
        spare(daemon, &pids(&seated.strangers));
    } else {
        turn_out(&seated.strangers);
    }
}

/// A process that has ended is not alive, even if nobody has collected it: what was started in its place is there.
fn is_alive(row: &RunRow) -> bool {
    row.process.start_ticks > 0
        && pidfd::open(row.process.pid)
            .is_ok_and(|fd| procfs::identity(row.process.pid).as_ref() == Some(&row.process) && pidfd::alive(fd))
}

/// The slot is to run, with the spec that the process was started from, and nobody is in it.
fn has_room(
    daemon: &Daemon,
    table: &Table,
    living: &BTreeSet<RunId>,
    app: AppId,
    slot: Slot,
    generation: Generation,
    run: RunId,
) -> bool {
    let Some(app) = daemon.core.apps.get(&app) else {
        return false;
    };
    let ended = |other: &Run| {
        let gone = other.phase != Phase::Spawning && !living.contains(&other.id) && !table.lives(other.id);
        other.exit.is_some() || gone
    };
    let newest = app.slots.get(slot as usize).and_then(|record| record.newest);
    app.is_wanted(slot)
        && app.generation == generation
        && newest.is_none_or(|newest| newest < run)
        && app.runs_in(slot).all(ended)
}

fn row(daemon: &Daemon, found: Found, app: AppId, slot: Slot) -> (RunRow, std::os::fd::OwnedFd) {
    let row = RunRow {
        run: found.run,
        app,
        slot,
        process: ProcessId {
            pid: found.process.pid,
            start_ticks: found.process.start_ticks,
            boot: Arc::clone(&daemon.boot),
        },
        started_at: clock::wall(),
    };
    (row, found.process.fd)
}

fn pids(found: &[Found]) -> String {
    let pids: BTreeSet<i32> = found.iter().map(|one| one.process.pid).collect();
    let words: Vec<String> = pids.iter().map(i32::to_string).collect();
    words.join(", ")
}

fn turn_out(strangers: &[Found]) {
    tracing::warn!(
        pids = pids(strangers),
        "stopping processes of this home that belong to no app any more"
    );
    for stranger in strangers {
        // They may have ended meanwhile.
        if stranger.leads {
            let _gone = pidfd::signal(&stranger.process.fd, 9, Scope::Group);
        }
        let _gone = pidfd::signal(&stranger.process.fd, 9, Scope::Process);
    }
    let until = clock::monotonic().after(DEATH);
    for stranger in strangers {
        let patience = Millis(until.since(clock::monotonic()).0);
        if !poll::readable(&stranger.process.fd, patience).unwrap_or(true) {
            tracing::error!(pid = stranger.process.pid, "it does not end, although it was killed");
        }
    }
}

/// Nobody knows whose these are, so nobody stops them.
pub(crate) fn spare(daemon: &mut Daemon, pids: &str) {
    let message =
        format!("the state that knew them is lost: these processes of this home go on without a manager: {pids}");
    tracing::warn!("{message}");
    daemon.hub.announce(clock::wall(), EventKind::StateLost, message);
}

impl Daemon {
    /// The keeper died and its daemon did not: orders that were not answered are looked after. What was started is
    /// taken over, the rest is ordered again.
    pub(crate) fn find_or_order_again(&mut self, waiting: &[RunId]) {
        if waiting.is_empty() {
            return;
        }
        for found in look(&self.home_tag, self.keeper_born.saturating_sub(NEWBORN)) {
            let is_meant = found.leads && waiting.contains(&found.run) && !self.handles.contains_key(&found.run);
            let place = self
                .core
                .owner(found.run)
                .and_then(|app| Some((app.id, app.runs.get(&found.run)?.slot)));
            if let (true, Some((app, slot))) = (is_meant, place) {
                let (row, fd) = row(self, found, app, slot);
                take_in(self, &row, fd, &mut BTreeMap::new());
            }
        }
        for run in waiting {
            let order = self.core.owner(*run).and_then(|app| {
                let record = app.runs.get(run).filter(|record| record.phase == Phase::Spawning)?;
                Some((app.id, record.slot, Arc::clone(app.spec_of(record))))
            });
            if let Some((app, slot, spec)) = order {
                self.spawn(*run, app, slot, &spec);
            }
        }
    }

    /// Says that this daemon and its keeper have everything.
    pub(crate) fn note_running(&self) {
        let running = Running {
            keeper_pid: self.keeper_pid,
            keeper_born: self.keeper_born,
        };
        if let Err(error) = running::write(&self.home.running(), &running) {
            // Only commands that would find survivors by it suffer: status then says that nothing runs.
            tracing::warn!("{} cannot be written: {error}", self.home.running().display());
        }
    }
}
