//! Starting a daemon: say hello to the keeper, open the state, take over what lives, open the doors.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use crate::daemon::daemon_loop::End;
use crate::daemon::hub::Hub;
use crate::daemon::listeners::recover::PREFIX;
use crate::daemon::mail::Mail;
use crate::daemon::recover::{self, Table};
use crate::daemon::sampling::Sampling;
use crate::daemon::survivors::Hunt;
use crate::daemon::{Daemon, http};
use crate::keeper::link::{Link, LinkError};
use crate::keeper::protocol::ToKeeper;
use crate::logs::pump::Pump;
use crate::logs::sink::Notice;
use crate::model::duration::Millis;
use crate::model::event::EventKind;
use crate::os::home::Home;
use crate::os::running::{self, Running};
use crate::os::{clock, memory, poll, procfs};
use crate::store::{Opened, Options, Store, StoreError};
use crate::supervise::{Core, Input};

/// Why a daemon did not start, or ended otherwise than asked.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The keeper does not talk to us.
    #[error("the keeper cannot be talked to")]
    Keeper(#[source] LinkError),
    /// The keeper speaks another protocol.
    #[error("the keeper refuses this daemon: {0}")]
    Refused(String),
    /// The state cannot be used.
    #[error("the state of {path} cannot be used")]
    Store {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: Box<StoreError>,
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
    result
}

async fn live(home: Home, link: OwnedFd, ready: &mut Option<File>) -> Result<(), DaemonError> {
    let mut link = Link::new(link).map_err(DaemonError::system("use the keeper's link"))?;
    let mut table = hello(&mut link)?;
    let keeper = Running {
        keeper_pid: table.keeper_pid,
        keeper_born: born(table.keeper_pid),
    };
    let home_tag = tag(&home);
    let hunt = Hunt::begin(&home, &home_tag, &keeper);
    let (mail, mut letters) = Mail::new();
    let Opened { store, state, notes } = match open_store(&home, mail.clone()) {
        Ok(opened) => opened,
        Err(error) => {
            give_up(&mut link);
            return Err(error);
        }
    };
    let notice_mail = mail.clone();
    let pump = Pump::start(
        clock::wall,
        Box::new(move |notice| notice_mail.post(move |daemon| daemon.noticed(notice))),
    )
    .map_err(DaemonError::system("start the log thread"))?;
    let keeper_link = crate::os::watch::for_both(link).map_err(DaemonError::system("watch the keeper's link"))?;
    let hub = Hub::new(state.last_event_seq);
    let mut daemon = Daemon {
        core: Core::new(state.next_app_id.0, state.first_run_id.0),
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
        draining: BTreeSet::new(),
        held_back: Vec::new(),
        helpers: BTreeMap::new(),
        next_helper: Daemon::first_helper(),
        listeners: crate::daemon::listeners::Listeners::default(),
        ready_pipes: BTreeMap::new(),
        pump,
        store,
        hub,
        samples: BTreeMap::new(),
        sampling: Sampling::default(),
        replies: BTreeMap::new(),
        next_ticket: 1,
        created: BTreeMap::new(),
        leaving: false,
    };
    daemon.hub.announce(
        clock::wall(),
        EventKind::DaemonStarted,
        format!("version {}", env!("CARGO_PKG_VERSION")),
    );
    let state_lost = !notes.is_empty();
    for note in notes {
        tracing::warn!("{note}");
        daemon.hub.announce(clock::wall(), EventKind::StateLost, note);
    }
    let listener = match daemon.open_doors(table.notify.take()) {
        Ok(listener) => listener,
        Err(error) => {
            give_up(daemon.keeper.get_mut());
            return Err(error);
        }
    };
    let server = tokio::spawn(http::serve(listener, mail));
    recover::recover(&mut daemon, state, table, hunt, state_lost);
    // What became of the apps while nobody looked is known from now on, whatever happens to this daemon.
    daemon.store.write(Box::new(|_| {}));
    if let Some(mut pipe) = ready.take() {
        // Whoever started us may have gone away.
        let _gone = pipe.write_all(b"ready\n");
    }
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        apps = daemon.core.apps.len(),
        "the daemon is up"
    );
    loop {
        match daemon.go_round(&mut letters).await {
            End::Left => break,
            End::KeeperLost(error) => {
                tracing::error!("the keeper is gone: {error}");
                daemon.replace_keeper()?;
            }
        }
    }
    daemon.close_doors();
    daemon.leave_keeper().await;
    // Answers that are on their way get the time to arrive.
    let _late = tokio::time::timeout(std::time::Duration::from_secs(1), http::drained()).await;
    server.abort();
    daemon.store.shut_down();
    tracing::info!("the daemon leaves");
    Ok(())
}

fn open_store(home: &Home, mail: Mail) -> Result<Opened, DaemonError> {
    let path = home.db();
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
    };
    Store::open(&path, options).map_err(|source| DaemonError::Store {
        path,
        source: Box::new(source),
    })
}

/// A keeper without children has no reason to stay when its first daemon cannot work.
fn give_up(link: &mut Link) {
    if link.queue(&ToKeeper::Exit { force: false }, Vec::new()).is_ok() {
        // It ends by itself when we do; there is nothing else to try.
        let _sent = link.flush();
    }
}

/// Introduces us and asks for everything the keeper has.
fn hello(link: &mut Link) -> Result<Table, DaemonError> {
    use crate::keeper::protocol::{FromKeeper, MIN_VERSION, VERSION};
    let queue = |link: &mut Link, message: &ToKeeper| link.queue(message, Vec::new()).map_err(DaemonError::Keeper);
    queue(
        link,
        &ToKeeper::Hello {
            min: MIN_VERSION,
            current: VERSION,
            daemon_version: env!("CARGO_PKG_VERSION").to_owned(),
        },
    )?;
    queue(
        link,
        &ToKeeper::Fetch {
            name: "notify".to_owned(),
        },
    )?;
    // Before the table: when that is complete, so are the descriptors.
    queue(link, &ToKeeper::Names)?;
    let mut table = Table::default();
    loop {
        while let Some((message, fds)) = link.receive::<FromKeeper>().map_err(DaemonError::Keeper)? {
            match message {
                FromKeeper::Welcome { keeper_pid, .. } => table.keeper_pid = keeper_pid,
                FromKeeper::Refused { why } => return Err(DaemonError::Refused(why)),
                FromKeeper::StoredNames { names } => {
                    for name in names.into_iter().filter(|name| name.starts_with(PREFIX)) {
                        queue(link, &ToKeeper::Fetch { name })?;
                    }
                    queue(link, &ToKeeper::Table)?;
                }
                FromKeeper::Stored { name, .. } if name.starts_with(PREFIX) => {
                    table.sockets.extend(fds.into_iter().next().map(|fd| (name, fd)));
                }
                FromKeeper::Stored { .. } => table.notify = fds.into_iter().next(),
                FromKeeper::Children { last, children } => {
                    table.add(children, fds);
                    if last {
                        return Ok(table);
                    }
                }
                // Exits are in the table, too; the rest answers questions nobody has asked yet.
                FromKeeper::Exited { seq, .. } => table.last_exit = Some(seq),
                FromKeeper::Spawned { .. }
                | FromKeeper::SpawnFailed { .. }
                | FromKeeper::Pong
                | FromKeeper::Terminate => {}
            }
        }
        // After what came, which may have led to new questions.
        link.flush()
            .map_err(|error| DaemonError::Keeper(LinkError::Io(error)))?;
        poll::readable(link.as_fd(), Millis(10_000)).map_err(DaemonError::system("wait for the keeper"))?;
    }
}

/// When a process began, in clock ticks since boot; 0 if it is gone.
pub(crate) fn born(pid: i32) -> u64 {
    procfs::identity(pid).map_or(0, |identity| identity.start_ticks)
}

/// A short text that tells homes apart: FNV-1a of the state folder's path.
fn tag(home: &Home) -> String {
    use std::os::unix::ffi::OsStrExt;
    let hash = home
        .state
        .as_os_str()
        .as_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
    format!("{hash:016x}")
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

    /// Makes both sockets.
    fn open_doors(&mut self, stored: Option<OwnedFd>) -> Result<tokio::net::UnixListener, DaemonError> {
        self.watch_home();
        self.listen_for_readiness(stored).map_err(DaemonError::system(format!(
            "make the socket {}",
            self.home.notify_socket().display()
        )))?;
        http::bind(&self.home.socket())
    }

    /// An orderly end: takes both names and the note away.
    fn close_doors(&self) {
        if let Err(error) = running::remove(&self.home.running()) {
            tracing::warn!("{} cannot be removed: {error}", self.home.running().display());
        }
        for door in [self.home.socket(), self.home.notify_socket()] {
            // Left behind, it is replaced by the next daemon.
            let _left = http::unbind(&door);
        }
    }

    fn listen_for_readiness(&mut self, stored: Option<OwnedFd>) -> io::Result<()> {
        use crate::os::notify::NotifySocket;
        let path = self.home.notify_socket();
        let socket = match stored {
            Some(fd) if path.exists() => NotifySocket::from_fd(fd),
            Some(_) | None => {
                let socket = NotifySocket::bind_path(&path)?.leave_path();
                let copy = socket.as_fd().try_clone_to_owned()?;
                self.keeper_send(
                    &ToKeeper::Store {
                        name: "notify".to_owned(),
                    },
                    vec![Arc::new(copy)],
                );
                socket
            }
        };
        tokio::spawn(crate::daemon::ready::NotifyServer::run(socket, self.mail.clone()));
        Ok(())
    }
}
