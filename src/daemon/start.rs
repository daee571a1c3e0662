//! Starting a daemon: say hello to the keeper, open the state, take over what lives, open the doors.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use tokio::sync::mpsc::UnboundedReceiver;

use crate::daemon::daemon_loop::End;
use crate::daemon::doors::Doors;
use crate::daemon::hello::hello;
use crate::daemon::hub::Hub;
use crate::daemon::mail::{Letter, Mail};
use crate::daemon::recover::{self, Table};
use crate::daemon::runtime::{self, Runtime};
use crate::daemon::sampling::Sampling;
use crate::daemon::service::Service;
use crate::daemon::survivors::Hunt;
use crate::daemon::upgrade::Upgrades;
use crate::daemon::{Daemon, http, log_files, salvage};
use crate::keeper::link::{Link, LinkError};
use crate::keeper::protocol::{ToKeeper, UpgradeOrder};
use crate::logs::journal::Journal;
use crate::logs::pump::Pump;
use crate::logs::sink::Notice;
use crate::logs::target::Sockets;
use crate::model::event::EventKind;
use crate::model::version::version;
use crate::os::home::Home;
use crate::os::running::Running;
use crate::os::{clock, fsx, memory, procfs};
use crate::store::{LoadedState, Opened, Options, Store, StoreError};
use crate::supervise::{Core, Input};

/// How long a daemon that makes room for another waits for its answers to be read.
const FAREWELL: std::time::Duration = std::time::Duration::from_millis(100);

/// Why a daemon did not start, or ended otherwise than asked.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The keeper does not talk to us.
    #[error("the keeper cannot be talked to")]
    Keeper(#[source] LinkError),
    /// The keeper speaks another protocol.
    #[error("the keeper refuses this daemon: {0}")]
    Refused(String),
    /// It was to take over from another build and did not find what that saw.
    #[error("{0}")]
    Unfit(String),
    /// The state cannot be used.
    #[error("the state of {path} cannot be used")]
    Store {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: Box<StoreError>,
    },
    /// The state was served from a copy, and the original can be written again.
    #[error("the file system of {path} can be written again: starting anew with the state there")]
    Writable {
        /// The state folder.
        path: PathBuf,
    },
    /// A system call that start-up needs.
    #[error("cannot {doing}")]
    System {
        /// What it was for.
        doing: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

impl DaemonError {
    pub(crate) fn system(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::System { doing, source }
    }
}

/// Sends the daemon's own log to standard error, which its keeper appends to a file. What does not fit on a full
/// disk is lost: to complain about that on standard error as well would panic.
pub fn log_to_stderr() {
    tracing_subscriber::fmt()
        .log_internal_errors(false)
        .with_ansi(false)
        .with_target(false)
        .with_writer(std::io::stderr)
        .init();
}

/// Runs a daemon until it is asked to leave.
///
/// `link` is its end of the keeper's link. Over `ready` it says `ready`, or why it cannot start.
///
/// # Errors
/// It could not start, or its keeper was lost and could not be replaced.
pub fn run(home: Home, link: OwnedFd, ready: Option<OwnedFd>) -> Result<(), DaemonError> {
    memory::lean();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .build()
        .map_err(DaemonError::system("start the runtime"))?;
    let mut ready = ready.map(File::from);
    let result = runtime.block_on(live(home, link, &mut ready));
    if let (Err(error), Some(pipe)) = (&result, &mut ready) {
        // The other end may be gone; then nobody is told but the log.
        let _gone = writeln!(pipe, "{}", crate::daemon::text::chain(error));
    }
    // What still runs on threads of its own is not waited for: the next daemon may be.
    runtime.shutdown_background();
    result
}

fn start_pump(home: &Home, mail: Mail) -> Result<Pump, DaemonError> {
    let pump = Pump::start(
        clock::wall,
        Box::new(move |notice| mail.post(move |daemon| daemon.noticed(notice))),
        log_journal(home),
    )
    .map_err(DaemonError::system("start the log thread"))?;
    pump.targets(sockets());
    Ok(pump)
}

/// Where journald and syslog listen; variables of the manager's environment name other places.
fn sockets() -> Sockets {
    let usual = Sockets::default();
    let named = |name: &str| std::env::var_os(name).filter(|path| !path.is_empty()).map(Into::into);
    Sockets {
        journald: named("CLMGR_JOURNALD_SOCKET").unwrap_or(usual.journald),
        syslog: named("CLMGR_SYSLOG_SOCKET").unwrap_or(usual.syslog),
    }
}

async fn live(home: Home, link: OwnedFd, ready: &mut Option<File>) -> Result<(), DaemonError> {
    let (mail, mut letters) = Mail::new();
    log_files::reopen_on_signal(mail.clone());
    let mut link = Link::new(link).map_err(DaemonError::system("use the keeper's link"))?;
    let mut table = hello(&mut link, &home.socket())?;
    let keeper = Running {
        keeper_pid: table.keeper_pid,
        keeper_born: born(table.keeper_pid),
    };
    let home_tag = home.tag();
    let hunt = Hunt::begin(&home, &home_tag, &keeper);
    let Opened {
        store,
        mut state,
        notes,
        salvaged,
        borrowed,
        schema,
    } = match open_store(&home, mail.clone()) {
        Ok(opened) => opened,
        Err(error) => {
            give_up(&mut link, table.trial.as_ref(), &error);
            return Err(error);
        }
    };
    if salvaged {
        salvage::salvage(&store, &mut state, &mut table, &home_tag);
    }
    let runtime = Runtime::begin(&mut table, &store, &mut state).await;
    let pump = start_pump(&home, mail.clone())?;
    pump.keep_times(home.log_times());
    let keeper_link = crate::os::watch::for_both(link).map_err(DaemonError::system("watch the keeper's link"))?;
    let mut hub = Hub::new(state.last_event_seq);
    runtime::open(runtime.as_ref(), &pump, &mut hub);
    let mut daemon = Daemon {
        core: Core::new(state.next_app_id.0, state.first_run_id.0.max(table.next_run())),
        home_tag,
        boot: procfs::boot_id(),
        home,
        began: clock::monotonic(),
        mail: mail.clone(),
        keeper: keeper_link,
        keeper_pid: keeper.keeper_pid,
        keeper_born: keeper.keeper_born,
        unacked: None,
        acking: false,
        handles: BTreeMap::new(),
        ordered: BTreeSet::new(),
        draining: BTreeSet::new(),
        held_back: Vec::new(),
        helpers: BTreeMap::new(),
        next_helper: Daemon::first_helper(),
        listeners: crate::daemon::listeners::Listeners::default(),
        monitors: crate::daemon::health::Monitors::default(),
        workers: crate::daemon::cluster::Workers::default(),
        notify: crate::daemon::notify::Notify::default(),
        ready_pipes: BTreeMap::new(),
        doors: Doors::default(),
        told_logs: BTreeMap::new(),
        pump,
        store,
        hub,
        samples: BTreeMap::new(),
        sampling: Sampling::default(),
        replies: BTreeMap::new(),
        next_ticket: 1,
        created: BTreeMap::new(),
        runtime,
        upgrades: Upgrades::new(table.keeper.take(), schema),
        leaving: false,
        detaching: false,
        service: Service::from_environment(clock::monotonic()),
        writable: false,
    };
    if borrowed {
        tokio::spawn(wait_for_disk(daemon.home.state.clone(), mail.clone()));
    }
    let state_lost = salvaged || !notes.is_empty();
    daemon.announce_start(notes, salvaged && !borrowed);
    let trial = table.trial.clone();
    let listener = match take_up(&mut daemon, state, table, hunt.unless(salvaged), state_lost) {
        Ok(listener) => listener,
        Err(error) => {
            give_up(daemon.keeper.get_mut(), trial.as_ref(), &error);
            return Err(error);
        }
    };
    let server = tokio::spawn(http::serve(listener, mail));
    daemon.say_ready(ready);
    work(&mut daemon, &mut letters).await?;
    if daemon.upgrades.leaving {
        server.abort();
        drop(letters);
        make_room(&daemon).await;
        return Ok(());
    }
    close(daemon, &server).await;
    Ok(())
}

/// Until everything was stopped.
async fn work(daemon: &mut Daemon, letters: &mut UnboundedReceiver<Letter>) -> Result<(), DaemonError> {
    loop {
        match daemon.go_round(letters).await {
            End::Left => return Ok(()),
            End::Writable => {
                let path = daemon.home.state.clone();
                return Err(DaemonError::Writable { path });
            }
            // The keeper lives. It starts the next daemon, which is given everything once more.
            End::KeeperLost(error @ (LinkError::FdsLost | LinkError::Decode(_) | LinkError::TooLarge(_))) => {
                return Err(DaemonError::Keeper(error));
            }
            End::KeeperLost(error) if daemon.service.is_some() => {
                // The service manager starts the next keeper, and knows only that one.
                daemon.persist();
                daemon.store.shut_down();
                return Err(DaemonError::Keeper(error));
            }
            End::KeeperLost(error) => {
                tracing::error!("the keeper is gone: {error}");
                daemon.replace_keeper()?;
            }
        }
    }
}

/// The state is a copy until its own file system can be written.
async fn wait_for_disk(state: PathBuf, mail: Mail) {
    while fsx::room(&state).is_err() {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
    mail.post(|daemon| daemon.writable = true);
}

/// Everything was stopped: the doors are closed, the last answers given, the state written.
async fn close(mut daemon: Daemon, server: &tokio::task::JoinHandle<()>) {
    daemon.close_doors();
    daemon.leave_keeper().await;
    // Answers that are on their way get the time to arrive.
    let _late = tokio::time::timeout(std::time::Duration::from_secs(1), http::drained(0)).await;
    server.abort();
    daemon.store.shut_down();
    tracing::info!("the daemon leaves");
}

/// Goes on where the daemon before has stopped, from what is known and what lives, and from what the keeper was told
/// before there was somebody to hear it; the socket to serve.
fn take_up(
    daemon: &mut Daemon,
    state: LoadedState,
    mut table: Table,
    hunt: Hunt,
    state_lost: bool,
) -> Result<tokio::net::UnixListener, DaemonError> {
    let upgraded = table.upgraded.take();
    if let Some(order) = table.trial.clone() {
        daemon.upgrades.busy = Some(order.id);
        daemon.upgrades.order = Some(order);
    }
    let listener = daemon.open_doors(std::mem::take(&mut table.doors))?;
    daemon.runtime_begun();
    let (applied, terminate) = (table.applied, table.terminate);
    recover::recover(daemon, state, table, hunt, state_lost).map_err(DaemonError::Unfit)?;
    daemon.pump.forget_unclaimed();
    daemon.tend_all_logs();
    if let Some(order) = &daemon.upgrades.order {
        let proven = ToKeeper::Proven { id: order.id };
        daemon.keeper_send(&proven, Vec::new());
    }
    // With an order there is another one to come.
    if let Some(outcome) = upgraded.filter(|_| daemon.upgrades.order.is_none()) {
        daemon.upgrade_ended(outcome);
    }
    if applied {
        daemon.runtime_applied();
    }
    if terminate {
        daemon.terminate();
    }
    Ok(listener)
}

/// Who connects from now on waits for the next daemon; what waits here is told to ask again.
async fn make_room(daemon: &Daemon) {
    let begun = daemon.replies.len();
    let _late = tokio::time::timeout(FAREWELL, http::drained(begun)).await;
    daemon.store.shut_down();
    tracing::info!("the daemon leaves to make room for another");
}

/// Logs are written without it if need be: then a killed daemon may lose the lines it had in hand.
fn log_journal(home: &Home) -> Option<Journal> {
    let folder = home.log_journal();
    Journal::open(&folder)
        .inspect_err(|error| {
            let folder = folder.display();
            tracing::warn!("the journal of the logs in {folder} cannot be used: {error}");
        })
        .ok()
}

fn open_store(home: &Home, mail: Mail) -> Result<Opened, DaemonError> {
    let (path, folder) = (home.db(), home.state.clone());
    let on_trouble = Box::new(move |begins, message: String| {
        mail.post(move |daemon| {
            let kind = if begins {
                EventKind::StateLost
            } else {
                EventKind::StateResumed
            };
            tracing::warn!("{kind}: {message}");
            daemon.hub.announce(clock::wall(), kind, message);
        });
    });
    let options = Options {
        now: clock::wall(),
        on_trouble,
        disk: Box::new(move || fsx::room(&folder)),
        spare: (home.run != home.state).then(|| home.run.clone()),
    };
    Store::open(&path, options).map_err(|source| DaemonError::Store {
        path,
        source: Box::new(source),
    })
}

/// A keeper without children has no reason to stay when its first daemon cannot work. One that has tried another
/// build's daemon is told why that goes.
fn give_up(link: &mut Link, trial: Option<&UpgradeOrder>, error: &DaemonError) {
    let last_words = match trial {
        None => ToKeeper::Exit { force: false },
        Some(_) => ToKeeper::Unfit {
            why: crate::daemon::text::chain(error),
        },
    };
    if link.queue(&last_words, Vec::new()).is_ok() {
        // It ends by itself when we do; there is nothing else to try.
        let _sent = link.flush();
    }
}

/// When a process began, in clock ticks since boot; 0 if it is gone.
pub(crate) fn born(pid: i32) -> u64 {
    procfs::identity(pid).map_or(0, |identity| identity.start_ticks)
}

impl Daemon {
    /// The log thread reports.
    fn noticed(&mut self, notice: Notice) {
        match notice {
            Notice::Drained { run, stderr } => self.drained(run, stderr),
            Notice::LineMatched { run } => self.input(Input::Ready(run)),
            Notice::Lost(loss) => {
                let message = format!(
                    "{}: output of {}:{} is being lost: {}",
                    loss.path.display(),
                    loss.app,
                    loss.slot,
                    loss.error
                );
                tracing::warn!("{message}");
                self.announce_for(EventKind::LogLost, &loss, message);
            }
            Notice::Dropped(loss) => {
                let message = format!(
                    "{}: {} lines ({} bytes) were dropped: {}",
                    loss.path.display(),
                    loss.lines,
                    loss.bytes,
                    loss.error
                );
                self.announce_for(EventKind::LogLost, &loss, message);
            }
            Notice::Console(message) => {
                tracing::warn!("{message}");
                self.hub.announce(clock::wall(), EventKind::LogLost, message);
            }
            Notice::Removed(removal) => {
                let message = log_files::removed(&removal);
                tracing::warn!("{message}");
                self.hub.announce(clock::wall(), EventKind::LogRemoved, message);
            }
            Notice::Resumed(loss) => {
                let message = format!(
                    "{}: written again; {} lines ({} bytes) were lost",
                    loss.path.display(),
                    loss.lines,
                    loss.bytes
                );
                self.announce_for(EventKind::LogResumed, &loss, message);
            }
        }
    }

    fn announce_for(&mut self, kind: EventKind, loss: &crate::logs::sink::Loss, message: String) {
        let Some(app) = self.core.named(&loss.app) else { return };
        let id = app.id;
        let event = self.hub.note(
            clock::wall(),
            crate::supervise::EventDraft {
                kind,
                id,
                app: loss.app.clone(),
                namespace: app.spec().namespace.clone(),
                slot: Some(loss.slot),
                pid: None,
                message,
                exit: None,
                stderr: Vec::new(),
            },
        );
        self.publish(id, &event);
    }

    /// Says that another daemon is at work, and what of the state was lost.
    fn announce_start(&mut self, notes: Vec<String>, resumed: bool) {
        self.hub.announce(
            clock::wall(),
            EventKind::DaemonStarted,
            format!("version {}", version()),
        );
        for note in notes {
            tracing::warn!("{note}");
            self.hub.announce(clock::wall(), EventKind::StateLost, note);
        }
        if resumed {
            let message = "changes are written again; the damaged file is kept beside the state";
            self.hub.announce(clock::wall(), EventKind::StateResumed, message);
        }
    }

    /// Whoever started us may have gone away.
    fn say_ready(&mut self, ready: &mut Option<File>) {
        // What became of the apps while nobody looked is known from now on, whatever happens to this daemon.
        self.persist();
        if let Some(mut pipe) = ready.take() {
            let _gone = pipe.write_all(b"ready\n");
        }
        tracing::info!(version = version(), apps = self.core.apps.len(), "the daemon is up");
    }
}
