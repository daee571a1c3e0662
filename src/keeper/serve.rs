//! The loop.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use super::daemon::{DaemonStarter, ExecDaemon};
use super::error::{KeeperError, block_signals};
use super::launch::{Launcher, ended};
use super::link::{Link, LinkError};
use super::protocol::{FromKeeper, ToKeeper};
use super::restart::Restart;
use super::state::{Effect, Reply, State};
use crate::model::duration::Millis;
use crate::model::time::Moment;
use crate::os::epoll::{Epoll, Ready};
use crate::os::home::Home;
use crate::os::pidfd::{self, Scope};
use crate::os::signals::Signals;
use crate::os::spawn::Spawned;
use crate::os::{clock, former, lock, memory, poll, reap};

const SIGNALS: u64 = 0;
const LINK: u64 = 1;
/// Added to the pid of a child of another keeper.
const FOREIGN: u64 = 1 << 32;
/// Messages acted upon between two looks at signals and the outgoing queue.
const BATCH: usize = 8;
/// Memory is given back when nothing has happened for this long.
const QUIET: Millis = Millis(2_000);
/// How long a daemon may live after its link has ended.
const GRACE: Millis = Millis(5_000);

/// How often a lock that is held is tried again, and after which pause.
const LOCK_TRIES: u32 = 5;
const LOCK_PAUSE: Millis = Millis(10);

/// How to run a keeper.
#[derive(Debug)]
pub struct KeeperOptions {
    /// Its folders.
    pub home: Home,
    /// Given to the first daemon, which says over it that it serves.
    pub ready_fd: Option<OwnedFd>,
    /// The program to run as `<exe> daemon`.
    pub daemon_exe: PathBuf,
    /// The link of a daemon that lives already: it has started this keeper in place of one that died.
    pub daemon_link: Option<OwnedFd>,
}

/// Runs the keeper of a home until it is told to leave. Call it before any thread is started.
///
/// # Errors
/// Start-up failed, most often because another keeper runs. After start-up there are no errors.
pub fn run(options: KeeperOptions) -> Result<(), KeeperError> {
    let log = options.home.own_log();
    // In place of a keeper that died, whatever became of its home.
    let replaces = options.daemon_link.is_some();
    let mut starter = ExecDaemon::new(options.daemon_exe, log, options.ready_fd, options.daemon_link);
    let result = prepare(&options.home, replaces).and_then(|_lock| run_with(&mut starter));
    if let Err(error) = &result {
        starter.report(error);
    }
    result
}

/// The folders, and the lock. Somebody who only asks whether the lock is held makes it seem so for a moment.
fn prepare(home: &Home, replaces: bool) -> Result<lock::Lock, KeeperError> {
    home.create()?;
    // Only a home that was never used, or was removed, has no lock.
    if !replaces
        && !home.lock().exists()
        && let Some(pid) = former::holder(&home.lock(), b"keeper")
    {
        return Err(KeeperError::Former { pid });
    }
    let mut tries = LOCK_TRIES;
    loop {
        match lock::acquire(&home.lock()) {
            Err(lock::LockError::Held { .. }) if tries > 0 => tries -= 1,
            result => return Ok(result?),
        }
        poll::pause(LOCK_PAUSE);
    }
}

/// The same with daemons of the caller's making, without a home.
///
/// # Errors
/// Start-up failed.
pub fn run_with(starter: &mut dyn DaemonStarter) -> Result<(), KeeperError> {
    let signals = block_signals()?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(KeeperError::system("become the reaper of orphans"))?;
    let launcher = Launcher::new().map_err(KeeperError::system("prepare for children"))?;
    let epoll = Epoll::new().map_err(KeeperError::system("create an epoll set"))?;
    epoll
        .add(&signals, SIGNALS)
        .map_err(KeeperError::system("wait for signals"))?;
    Keeper {
        starter,
        signals,
        epoll,
        state: State::new(launcher),
        link: None,
        writing: false,
        daemon: None,
        restart: Restart::default(),
        start_at: Some(Moment(0)),
        kill_at: None,
        quiet_at: None,
        leaving: false,
    }
    .serve();
    Ok(())
}

/// A daemon that was started and whose end was not seen yet.
#[derive(Debug)]
struct Daemon {
    process: Option<Spawned>,
    started: Moment,
}

struct Keeper<'a> {
    starter: &'a mut dyn DaemonStarter,
    signals: Signals,
    epoll: Epoll,
    state: State,
    link: Option<Link>,
    /// The link waits for its socket to become writable.
    writing: bool,
    daemon: Option<Daemon>,
    restart: Restart,
    /// When to start the next daemon.
    start_at: Option<Moment>,
    /// When to kill a daemon that has closed its link.
    kill_at: Option<Moment>,
    /// When to give memory back.
    quiet_at: Option<Moment>,
    leaving: bool,
}

impl Keeper<'_> {
    fn serve(mut self) {
        let mut events = Vec::new();
        loop {
            self.timers();
            if self.leaving && self.daemon.is_none() {
                return;
            }
            let due = [self.next_timer(), self.quiet_at].into_iter().flatten().min();
            let wait = due.map(|at| Millis(at.since(clock::monotonic()).0 + 1));
            if let Err(error) = self.epoll.wait(wait, &mut events) {
                note(&format!("cannot wait for events: {error}"));
            }
            self.rest(events.is_empty());
            for event in &events {
                self.event(*event);
            }
            self.flush();
        }
    }

    /// Gives memory back once, some time after the last event.
    fn rest(&mut self, idle: bool) {
        let now = clock::monotonic();
        if !idle {
            self.quiet_at = Some(now.after(QUIET));
        } else if self.quiet_at.is_some_and(|at| at <= now) {
            self.quiet_at = None;
            memory::settle();
        }
    }

    fn next_timer(&self) -> Option<Moment> {
        [self.start_at, self.kill_at].into_iter().flatten().min()
    }

    fn timers(&mut self) {
        let now = clock::monotonic();
        if self.kill_at.is_some_and(|at| at <= now) {
            self.kill_at = None;
            if let Some(Spawned { pidfd, .. }) = self.daemon.as_ref().and_then(|daemon| daemon.process.as_ref()) {
                note("the daemon did not end after its link; killing it");
                drop(pidfd::signal(pidfd, libc::SIGKILL, Scope::Process));
            }
        }
        if self.start_at.is_some_and(|at| at <= now) && !self.leaving {
            self.start_at = None;
            self.start_daemon(now);
        }
    }

    fn event(&mut self, event: Ready) {
        match event.token {
            SIGNALS => self.read_signals(),
            LINK if event.readable => self.read_link(),
            LINK => {}
            token => self.foreign_ended(token),
        }
    }

    fn start_daemon(&mut self, now: Moment) {
        let started = self.starter.start().and_then(|daemon| {
            let link = Link::new(daemon.link)?;
            self.epoll.add(&link, LINK)?;
            Ok((link, daemon.process))
        });
        match started {
            Ok((link, process)) => {
                self.link = Some(link);
                self.writing = false;
                self.daemon = Some(Daemon { process, started: now });
            }
            Err(error) => {
                let wait = self.restart.wait_after(Millis::ZERO);
                note(&format!("cannot start the daemon: {error}; next try in {} ms", wait.0));
                self.start_at = Some(now.after(wait));
            }
        }
    }

    fn read_link(&mut self) {
        let mut replies = Vec::new();
        loop {
            for _ in 0..BATCH {
                let Some(link) = self.link.as_mut() else { return };
                match link.receive::<ToKeeper>() {
                    Ok(Some((message, fds))) => {
                        let effect = self.state.handle(message, fds, &mut replies);
                        self.send(&mut replies);
                        match effect {
                            Effect::None => {}
                            Effect::Watch(runs) => self.watch(&runs),
                            Effect::Leave => return self.leave(),
                        }
                    }
                    Ok(None) => return,
                    Err(error) => return self.link_lost(&error),
                }
            }
            self.flush();
            self.read_signals();
        }
    }

    fn send(&mut self, replies: &mut Vec<Reply>) {
        for (message, fds) in replies.drain(..) {
            if let Some(link) = self.link.as_mut()
                && let Err(error) = link.queue(&message, fds)
            {
                note(&format!("cannot tell the daemon: {error}"));
            }
        }
    }

    fn announce(&mut self, message: Option<FromKeeper>) {
        let mut replies: Vec<Reply> = message.into_iter().map(|message| (message, Vec::new())).collect();
        self.send(&mut replies);
    }

    fn flush(&mut self) {
        let Some(link) = self.link.as_mut() else { return };
        match link.flush() {
            Ok(done) => {
                if self.writing == done {
                    self.writing = !done;
                    drop(self.epoll.want_write(&*link, LINK, !done));
                }
            }
            // What it has sent before may still be read; the end of that is the end of the link.
            Err(_) if link.wants_write() => link.discard(),
            Err(_) => {}
        }
    }

    fn link_lost(&mut self, error: &LinkError) {
        if !matches!(error, LinkError::Closed) {
            note(&format!("the link to the daemon is broken: {error}"));
        }
        self.close_link();
        match &self.daemon {
            Some(Daemon { process: None, .. }) => self.daemon_gone(),
            Some(_) => self.kill_at = Some(clock::monotonic().after(GRACE)),
            None => {}
        }
    }

    fn close_link(&mut self) {
        self.state.welcomed = false;
        if let Some(link) = self.link.take() {
            self.epoll.remove(&link);
        }
    }

    fn leave(&mut self) {
        self.leaving = true;
        self.flush();
        self.close_link();
        self.start_at = None;
        match &self.daemon {
            Some(Daemon { process: Some(_), .. }) => self.kill_at = Some(clock::monotonic().after(GRACE)),
            Some(Daemon { process: None, .. }) | None => self.daemon = None,
        }
    }

    fn read_signals(&mut self) {
        while let Ok(Some(signal)) = self.signals.next() {
            match signal {
                libc::SIGCHLD => self.reap(),
                libc::SIGTERM | libc::SIGINT if !self.state.terminating => {
                    self.state.terminating = true;
                    let message = self.state.welcomed.then_some(FromKeeper::Terminate);
                    self.announce(message);
                }
                // SIGHUP, and repeated requests to end.
                _ => {}
            }
        }
    }

    fn reap(&mut self) {
        while let Ok(Some(reaped)) = reap::next() {
            let daemon = self.daemon.as_ref().and_then(|daemon| daemon.process.as_ref());
            if daemon.is_some_and(|daemon| daemon.pid == reaped.pid) {
                note(&format!("the daemon (process {}) ended: {}", reaped.pid, reaped.exit));
                self.daemon_gone();
            } else if let Some(run) = self.state.children.run_of(reaped.pid) {
                let message = self.state.exited(run, reaped.exit);
                self.announce(message);
            }
        }
    }

    fn daemon_gone(&mut self) {
        let Some(daemon) = self.daemon.take() else { return };
        // What it had already sent still counts: an acknowledgement, or the order to leave.
        self.read_link();
        self.close_link();
        self.kill_at = None;
        if !self.leaving {
            let now = clock::monotonic();
            self.start_at = Some(now.after(self.restart.wait_after(now.since(daemon.started))));
        }
    }

    fn watch(&mut self, runs: &[u64]) {
        for run in runs {
            let Some((pid, fd)) = self
                .state
                .children
                .get(*run)
                .and_then(|child| Some((child.pid, child.pidfd()?)))
            else {
                continue;
            };
            if let Err(error) = self.epoll.add(fd.as_fd(), FOREIGN | u64::from(pid.unsigned_abs())) {
                note(&format!("cannot follow process {pid}: {error}"));
            }
        }
    }

    fn foreign_ended(&mut self, token: u64) {
        let run = i32::try_from(token & !FOREIGN)
            .ok()
            .and_then(|pid| self.state.children.run_of(pid));
        let Some(run) = run else { return };
        let Some(fd) = self.state.children.get(run).and_then(|child| child.pidfd()).cloned() else {
            return;
        };
        self.epoll.remove(&*fd);
        let message = self.state.exited(run, ended(&fd));
        self.announce(message);
    }
}

/// Writes a line to standard error, which is the keeper's own log. Failures do not matter.
fn note(text: &str) {
    drop(writeln!(std::io::stderr(), "{} clmgr keeper: {text}", clock::wall()));
}
