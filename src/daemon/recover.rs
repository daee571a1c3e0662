//! Going on where another daemon stopped: joins what is wanted (the store), what was being done (each app's
//! record) and what lives (the keeper's table). No process is signalled, restarted or duplicated by it.
//!
//! | the record says | the keeper has | then |
//! |---|---|---|
//! | a run, spawning | the child | it was started: `Spawned` |
//! | a run, spawning | nothing | the order is given again |
//! | a run, living | the child, living | it goes on |
//! | a run, living | its exit | its pipes are drained, then `Exited` |
//! | a run, living | nothing | adopted by pid, start time and boot if it lives; else its exit is unknown |
//! | a run, living | its exit, given back | `Exited`, without last words |
//! | nothing | a living child of the app | taken over if nobody lives in its slot, else stopped |
//! | nothing | a child of no known app | stopped |
//!
//! What neither of them has is looked for by [`survivors`](crate::daemon::survivors).

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use crate::daemon::Daemon;
use crate::daemon::fdstore;
use crate::daemon::handshake::Range;
use crate::daemon::listeners::recover::Stored;
use crate::daemon::listeners::{CLUSTER, LISTEN, channel_number};
use crate::daemon::runs::{Label, Pipes, is_helper};
use crate::daemon::runtime;
use crate::daemon::spawning::wants_channel;
use crate::daemon::survivors::{self, Hunt};
use crate::keeper::protocol::{ChildEntry, Held, Restored, ToKeeper, UpgradeOrder, UpgradeOutcome};
use crate::model::event::EventKind;
use crate::model::exit::{Exit, ExitStatus};
use crate::model::names::{AppId, RunId, Slot};
use crate::model::spec::AppSpec;
use crate::os::{clock, fds, pidfd, procfs, spare};
use crate::store::{LoadedState, Note, RunRow};
use crate::supervise::Input;
use crate::supervise::app::App;
use crate::supervise::run::{Generation, Phase, Run};

/// What begins the names of pipes and channels that a service manager has kept of the apps of a keeper before this one.
const KEPT: &str = "run/";

/// What the keeper had when we came.
#[derive(Debug, Default)]
pub(crate) struct Table {
    pub keeper_pid: i32,
    pub doors: crate::daemon::doors::Found,
    pub last_exit: Option<u64>,
    /// Listening sockets.
    pub sockets: Stored,
    /// What apps have left for their next processes.
    pub stored: BTreeMap<String, OwnedFd>,
    /// Ends of pipes and channels that the service manager has kept, as `run/7/stdin`.
    pub kept: BTreeMap<String, OwnedFd>,
    /// What the keeper of a runtime holds for us.
    pub runtime: BTreeMap<String, OwnedFd>,
    /// A runtime has started everything.
    pub applied: bool,
    /// The keeper was asked to end before we came.
    pub terminate: bool,
    /// What the keeper speaks, and its version.
    pub keeper: Option<(Range, String)>,
    /// This daemon is to take over from another build's.
    pub trial: Option<UpgradeOrder>,
    /// How the last upgrade ended.
    pub upgraded: Option<UpgradeOutcome>,
    children: BTreeMap<RunId, (ChildEntry, Pipes)>,
}

impl Table {
    /// The keeper has it, dead or alive.
    pub(crate) fn has(&self, run: RunId) -> bool {
        self.children.contains_key(&run)
    }

    /// The keeper has it, alive.
    pub(crate) fn lives(&self, run: RunId) -> bool {
        self.children.get(&run).is_some_and(|(child, _)| child.exited.is_none())
    }

    /// A descriptor that the keeper has stored.
    pub(crate) fn keep(&mut self, name: String, fd: OwnedFd) {
        if self.doors.is_door(&name) {
            self.doors.stored(&name, fd);
        } else if runtime::NAMES.contains(&name.as_str()) {
            self.runtime.insert(name, fd);
        } else if name.starts_with(KEPT) {
            self.kept.insert(name, fd);
        } else if name.starts_with(LISTEN) || name.starts_with(CLUSTER) {
            self.sockets.insert(name, fd);
        } else if name.starts_with(fdstore::recover::PREFIX) {
            self.stored.insert(name, fd);
        }
    }

    /// One more part of it.
    pub(crate) fn add(&mut self, children: Vec<ChildEntry>, fds: Vec<OwnedFd>) {
        let mut fds = fds.into_iter();
        for child in children {
            let pipes = Pipes::take(child.held, &mut fds);
            self.children.insert(RunId(child.run), (child, pipes));
        }
    }

    /// Run, pid and label of every child that lives.
    pub(crate) fn living(&self) -> impl Iterator<Item = (RunId, i32, &[u8])> {
        let living = self.children.iter().filter(|(_, (child, _))| child.exited.is_none());
        living.map(|(run, (child, _))| (*run, child.pid, child.label.as_slice()))
    }

    /// The first run number that no child has.
    pub(crate) fn next_run(&self) -> u64 {
        let runs = self.children.keys().filter(|run| !is_helper(**run));
        runs.map(|run| run.0 + 1).max().unwrap_or(0)
    }

    /// How a child ended, if it is one that has.
    pub(crate) fn exit_of(&self, run: RunId) -> Option<Exit> {
        let (child, _) = self.children.get(&run)?;
        child.exited.as_ref().map(|report| report.exit)
    }

    /// Says for this daemon that a child is somebody else's; false if there is no such child.
    pub(crate) fn relabel(&mut self, run: RunId, label: &Label) -> bool {
        let Some((child, _)) = self.children.get_mut(&run) else {
            return false;
        };
        child.label = serde_json::to_vec(label).unwrap_or_default();
        true
    }
}

/// Takes everything over and continues.
///
/// # Errors
/// Only a daemon on trial fails: it does not find what the daemon before it saw. Nothing was done then.
pub(crate) fn recover(
    daemon: &mut Daemon,
    state: LoadedState,
    mut table: Table,
    hunt: Hunt,
    state_lost: bool,
) -> Result<(), String> {
    daemon.unacked = table.last_exit;
    let fresh = table.children.is_empty();
    let sockets = std::mem::take(&mut table.sockets);
    let stored = std::mem::take(&mut table.stored);
    load(daemon, &state);
    daemon.core.inherit(clock::monotonic());
    if let Some(seen) = table.trial.as_ref().and_then(|order| order.seen.as_ref()) {
        let living = table.children.iter().filter(|(_, (child, _))| child.exited.is_none());
        daemon.compare(seen, &living.map(|(run, _)| *run).collect())?;
    }
    // Before anything else is said: a replacement that runs already must be in its slot when the end of the one
    // before it, or another slot's good news, asks for a start.
    seat_strangers(daemon, &table);
    for (run, (child, _)) in &table.children {
        let label: Option<Label> = serde_json::from_slice(&child.label).ok();
        daemon.enter_lane(*run, label.is_some_and(|label| label.second));
    }
    let seated = survivors::seat(daemon, &table, &state, hunt);
    let mut kept = std::mem::take(&mut table.kept);
    let names: Vec<String> = kept.keys().cloned().collect();
    adopt_survivors(daemon, &state.runs, &table, &mut kept, state_lost);
    survivors::settle(daemon, seated, &mut kept, state_lost);
    for name in names {
        daemon.keeper_send(&ToKeeper::Drop { name }, Vec::new());
    }
    let known: Vec<RunId> = daemon
        .core
        .apps
        .values()
        .flat_map(|app| app.runs.keys().copied())
        .collect();
    let mut ended = Vec::new();
    for run in known {
        if daemon.handles.contains_key(&run) {
            continue;
        }
        match table.children.remove(&run) {
            Some((child, pipes)) => ended.extend(rejoin(daemon, run, child, pipes)),
            None => lost(daemon, run),
        }
    }
    for (run, (child, pipes)) in table.children {
        turn_away(daemon, run, child, pipes, state_lost);
    }
    for row in &state.runs {
        if !daemon.handles.contains_key(&row.run) {
            daemon.store.note(Note::RunEnded { run: row.run });
        }
    }
    daemon.note_running();
    daemon.recover_sockets(sockets, fresh);
    daemon.recover_fd_store(stored);
    // What was sent while nobody listened, and only then who has ended since: it may have handed over to another.
    daemon.hear_all();
    for (run, pid, exit) in ended {
        daemon.leader_ended(run, pid, exit);
    }
    daemon.core.resume(clock::monotonic());
    Ok(())
}

/// Apps as they are wanted, with their records where these are of this boot.
fn load(daemon: &mut Daemon, state: &LoadedState) {
    for row in &state.apps {
        daemon.created.insert(row.id, row.created_at);
        let record = state
            .runtime
            .iter()
            .find(|record| record.app == row.id && record.boot == daemon.boot);
        let known = record.and_then(|record| App::import(&record.json, Arc::clone(&row.spec)));
        let mut app = known.unwrap_or_else(|| App::new(row.id, Arc::clone(&row.spec), row.desired, row.wanted));
        app.set_wanted(row.desired, row.wanted, row.held.iter().copied());
        daemon.core.insert(app);
    }
}

/// Takes a child back into the books; if its process has ended, that is still to be told.
fn rejoin(daemon: &mut Daemon, run: RunId, child: ChildEntry, pipes: Pipes) -> Option<(RunId, i32, Exit)> {
    let app = daemon.core.owner(run)?;
    let (id, record) = (app.id, app.runs.get(&run)?);
    let (slot, phase) = (record.slot, record.phase);
    if let (None, Some(report)) = (&pipes.pidfd, &child.exited) {
        // Its descriptors were given back by a daemon that died before this was written.
        daemon.unacked = Some(daemon.unacked.map_or(report.seq, |known| known.max(report.seq)));
        if phase == Phase::Spawning {
            daemon.input(Input::Spawned(run, child.pid));
        }
        daemon.input(match phase {
            Phase::Sweeping => Input::Swept(run),
            Phase::Spawning | Phase::Starting | Phase::Online | Phase::PreStop | Phase::Stopping | Phase::Killing => {
                Input::Exited(run, report.exit, Vec::new())
            }
        });
        return None;
    }
    if !daemon.attach(run, id, slot, child.pid, pipes, true) {
        return None;
    }
    if phase == Phase::Spawning {
        daemon.input(Input::Spawned(run, child.pid));
    } else {
        // It may have become another process that no record was written of.
        daemon.core.lead(run, child.pid);
    }
    let report = child.exited?;
    daemon.unacked = Some(daemon.unacked.map_or(report.seq, |known| known.max(report.seq)));
    Some((run, child.pid, report.exit))
}

/// A run that the keeper does not know: its order never arrived, or keeper and process are gone.
fn lost(daemon: &mut Daemon, run: RunId) {
    let phase = daemon
        .core
        .owner(run)
        .and_then(|app| app.runs.get(&run))
        .map(|record| record.phase);
    match phase {
        // `resume` gives the order again.
        Some(Phase::Spawning) | None => {}
        Some(Phase::Sweeping) => daemon.input(Input::Swept(run)),
        Some(Phase::Starting | Phase::Online | Phase::PreStop | Phase::Stopping | Phase::Killing) => {
            daemon.input(Input::Exited(run, Exit::bare(ExitStatus::Unknown), Vec::new()));
        }
    }
}

/// Children that no record knows take their slots, if these are free.
fn seat_strangers(daemon: &mut Daemon, table: &Table) {
    for (run, (child, _)) in &table.children {
        if is_helper(*run) || daemon.core.owner(*run).is_some() {
            continue;
        }
        let unheard = child.exited.as_ref().is_none_or(|report| !report.acked);
        let label: Option<Label> = serde_json::from_slice(&child.label).ok();
        if let (
            Some(Label {
                app: Some(id),
                slot,
                generation,
                ..
            }),
            true,
        ) = (label, unheard)
            && is_free(daemon, table, id, slot, generation, *run, child)
        {
            daemon.core.take_over(id, Run::new(*run, slot, generation));
        }
    }
}

/// Others in the slot have ended: this one was started in their place just before the daemon died.
fn is_free(
    daemon: &Daemon,
    table: &Table,
    id: AppId,
    slot: Slot,
    generation: Generation,
    run: RunId,
    child: &ChildEntry,
) -> bool {
    let Some(app) = daemon.core.apps.get(&id) else {
        return false;
    };
    let ended = |other: &Run| {
        let exited = |(child, _): &(ChildEntry, Pipes)| child.exited.is_some();
        let lost = other.phase != Phase::Spawning;
        other.exit.is_some() || table.children.get(&other.id).map_or(lost, exited)
    };
    // An exit that the record knows of was only not acknowledged any more.
    let newest = app.slots.get(slot as usize).and_then(|record| record.newest);
    let news = child.exited.is_none() || newest.is_none_or(|newest| newest < run);
    app.is_wanted(slot) && app.generation == generation && news && app.runs_in(slot).all(ended)
}

/// A child that has no place: a helper's, a deleted app's, or one too many. With `state_lost` its app may be one that
/// could not be read: then it lives on.
fn turn_away(daemon: &mut Daemon, run: RunId, child: ChildEntry, pipes: Pipes, state_lost: bool) {
    if let Some(report) = child.exited {
        daemon.unacked = Some(daemon.unacked.map_or(report.seq, |known| known.max(report.seq)));
        daemon.keeper_send(&ToKeeper::Release { run: run.0 }, Vec::new());
    } else if state_lost && !is_helper(run) {
        survivors::spare(daemon, &child.pid.to_string());
    } else if let Some(fd) = pipes.pidfd {
        if !is_helper(run) {
            tracing::warn!(%run, pid = child.pid, "stopping a process that belongs to no app any more");
        }
        // It may have ended meanwhile. Its exit, when it comes, releases what the keeper holds of it.
        pidfd::kill(&fd);
    }
}

/// Keeper and daemon died together: processes that are still the same by pid, start time and boot are given to
/// the new keeper, their pipes opened again.
fn adopt_survivors(
    daemon: &mut Daemon,
    rows: &[RunRow],
    table: &Table,
    kept: &mut BTreeMap<String, OwnedFd>,
    state_lost: bool,
) {
    let mut restored = Vec::new();
    let boot = daemon.boot.clone();
    for row in rows
        .iter()
        .filter(|row| row.process.boot == boot && row.process.start_ticks > 0)
    {
        if table.children.contains_key(&row.run) {
            continue;
        }
        let Ok(pidfd) = pidfd::open(row.process.pid) else {
            continue;
        };
        if procfs::identity(row.process.pid).as_ref() != Some(&row.process) {
            continue;
        }
        let known = daemon
            .core
            .owner(row.run)
            .and_then(|app| app.runs.get(&row.run))
            .is_some_and(|run| run.exit.is_none());
        if !known {
            let free = daemon
                .core
                .apps
                .get(&row.app)
                .is_some_and(|app| app.is_wanted(row.slot) && app.runs_in(row.slot).next().is_none());
            if !free {
                let pid = row.process.pid;
                if state_lost {
                    survivors::spare(daemon, &pid.to_string());
                } else {
                    tracing::warn!(pid, "stopping a survivor that belongs to no app any more");
                    pidfd::kill(&pidfd);
                }
                continue;
            }
            let generation = daemon.core.apps.get(&row.app).map_or(0, |app| app.generation);
            daemon.core.take_over(row.app, Run::new(row.run, row.slot, generation));
        }
        restored.push((row.clone(), pidfd));
    }
    for (row, pidfd) in restored {
        take_in(daemon, &row, pidfd, kept);
    }
}

pub(crate) fn take_in(daemon: &mut Daemon, row: &RunRow, pidfd: OwnedFd, kept: &mut BTreeMap<String, OwnedFd>) {
    let pid = row.process.pid;
    daemon.enter_lane(row.run, daemon.is_second(row.run));
    // One that ended without being reaped is taken in as well: the kernel may still tell how.
    let survived = pidfd::alive(&pidfd);
    let mut keep = |what: &str| kept.remove(&format!("run/{}/{what}", row.run));
    let ends = Ends {
        stdin: keep("stdin"),
        channel: keep("channel"),
    };
    let (pipes, missing) = pipes_of(daemon.spec_of(row.run).as_deref(), pid, pidfd, ends);
    let generation = daemon
        .core
        .owner(row.run)
        .and_then(|app| app.runs.get(&row.run))
        .map_or(0, |run| run.generation);
    daemon.restore(
        row.run,
        row.app,
        row.slot,
        generation,
        row.process.start_ticks,
        pid,
        &pipes,
    );
    let spawning = daemon
        .core
        .owner(row.run)
        .and_then(|app| app.runs.get(&row.run))
        .is_some_and(|run| run.phase == Phase::Spawning);
    if daemon.attach(row.run, row.app, row.slot, pid, pipes, true) {
        if spawning {
            daemon.input(Input::Spawned(row.run, pid));
        }
        if !survived {
            return;
        }
        let name = daemon
            .core
            .apps
            .get(&row.app)
            .map(|app| app.name().to_string())
            .unwrap_or_default();
        let mut message = format!("{name}:{} (pid {pid}) survived and was taken over", row.slot);
        if !missing.is_empty() {
            message.push_str("; lost: ");
            message.push_str(&missing.join(", "));
            tracing::warn!("{message}");
        }
        daemon.hub.announce(clock::wall(), EventKind::Adopted, message);
    }
}

/// Our ends of what cannot be opened again everywhere, where the service manager has kept them.
struct Ends {
    stdin: Option<OwnedFd>,
    channel: Option<OwnedFd>,
}

/// The pipes of a survivor, kept or opened again through itself, and what could not be. What the app has closed is
/// not lost.
fn pipes_of(spec: Option<&AppSpec>, pid: i32, process: OwnedFd, kept: Ends) -> (Pipes, Vec<String>) {
    use std::io::ErrorKind;
    let mut missing = Vec::new();
    let mut or_missing = |what: &str, result: std::io::Result<OwnedFd>| match result {
        Ok(fd) => Some(fd),
        Err(error) => {
            if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidInput) {
                missing.push(format!("its {what} ({})", crate::daemon::text::cause(&error)));
            }
            None
        }
    };
    let take_back = |spec| spare::take_back(process.as_fd(), pid, channel_number(spec));
    let channel = match kept.channel {
        Some(end) => Some(Ok(end)),
        None => spec.filter(|spec| wants_channel(spec)).map(take_back),
    };
    let stdin = kept.stdin.map_or_else(|| fds::reopen_pipe_to_write(pid, 0), Ok);
    let pipes = Pipes {
        out: or_missing("output", fds::reopen_pipe(pid, 1)),
        err: or_missing("error output", fds::reopen_pipe(pid, 2)),
        stdin: or_missing("standard input", stdin),
        channel: channel.and_then(|result| or_missing("IPC channel", result)),
        pidfd: Some(process),
    };
    (pipes, missing)
}

impl Daemon {
    /// Gives a living process to a keeper that is not its parent.
    #[expect(clippy::too_many_arguments, reason = "each is one column of the keeper's table")]
    pub(crate) fn restore(
        &mut self,
        run: RunId,
        app: AppId,
        slot: u32,
        generation: u32,
        start_ticks: u64,
        pid: i32,
        pipes: &Pipes,
    ) {
        let label = serde_json::to_vec(&Label {
            app: Some(app),
            slot,
            generation,
            second: self.is_second(run),
        })
        .unwrap_or_default();
        let mut held = Held::default();
        let mut passed = Vec::new();
        let all = [
            (Held::PIDFD, &pipes.pidfd),
            (Held::OUT, &pipes.out),
            (Held::ERR, &pipes.err),
            (Held::STDIN, &pipes.stdin),
            (Held::CHANNEL, &pipes.channel),
        ];
        for (what, fd) in all {
            if let Some(copy) = fd.as_ref().and_then(|fd| fd.try_clone().ok()) {
                held = held.with(what);
                passed.push(Arc::new(copy));
            }
        }
        let child = Restored {
            run: run.0,
            pid,
            start_ticks,
            label,
            started: clock::monotonic(),
            held,
        };
        self.keeper_send(&ToKeeper::Restore { children: vec![child] }, passed);
    }
}
