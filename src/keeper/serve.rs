//! The loop.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};

use super::daemon::{DaemonProcess, DaemonStarter};
use super::error::{KeeperError, block_signals};
use super::launch::{Launcher, ended};
use super::link::{Link, LinkError};
use super::protocol::{FromKeeper, ToKeeper};
use super::restart::Restart;
use super::runtime::Runtime;
use super::service::Service;
use super::state::{Effect, Reply, State};
use super::upgrade::Upgrade;
use crate::model::duration::Millis;
use crate::model::exit::Exit;
use crate::model::time::Moment;
use crate::os::epoll::{Epoll, Ready};
use crate::os::pidfd::{self, Scope};
use crate::os::signals::Signals;
use crate::os::spawn::Spawned;
use crate::os::{clock, lock, memory, reap};

pub(super) const SIGNALS: u64 = 0;
pub(super) const LINK: u64 = 1;
/// Added to the pid of a child of another keeper.
const FOREIGN: u64 = 1 << 32;
/// Messages acted upon between two looks at signals and the outgoing queue.
const BATCH: usize = 8;
/// Memory is given back when nothing has happened for this long.
const QUIET: Millis = Millis(2_000);
/// How long a daemon may live after its link has ended.
pub(super) const GRACE: Millis = Millis(5_000);
/// A service manager that takes no messages now is tried again after this.
pub(super) const RETELL: Millis = Millis(20);

/// A daemon that was started and whose end was not seen yet.
#[derive(Debug)]
pub(super) struct Daemon {
    pub(super) process: Option<Spawned>,
    pub(super) started: Moment,
}

pub(super) struct Keeper<'a> {
    pub(super) starter: &'a mut dyn DaemonStarter,
    pub(super) runtime: Option<Runtime>,
    pub(super) signals: Signals,
    pub(super) epoll: Epoll,
    pub(super) state: State,
    /// What locks the home, as long as the keeper lives.
    pub(super) lock: Option<lock::Lock>,
    pub(super) link: Option<Link>,
    /// The link waits for its socket to become writable.
    pub(super) writing: bool,
    pub(super) daemon: Option<Daemon>,
    pub(super) restart: Restart,
    /// Living runs whose process is not our child, or was not when we began to watch it.
    pub(super) foreign: BTreeSet<u64>,
    pub(super) upgrade: Option<Upgrade>,
    /// When to start the next daemon.
    pub(super) start_at: Option<Moment>,
    /// When to kill a daemon that has closed its link.
    pub(super) kill_at: Option<Moment>,
    /// When to give memory back.
    pub(super) quiet_at: Option<Moment>,
    /// When to leave without a daemon that was asked to detach.
    pub(super) leave_at: Option<Moment>,
    pub(super) leaving: bool,
}

impl<'a> Keeper<'a> {
    pub(super) fn new(
        starter: &'a mut dyn DaemonStarter,
        oom_score_adj: i32,
        service: Service,
        stored: Vec<(String, OwnedFd)>,
        runtime: Option<Runtime>,
    ) -> Result<Self, KeeperError> {
        let signals = block_signals()?;
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
            .map_err(KeeperError::system("become the reaper of orphans"))?;
        let launcher = Launcher::new(oom_score_adj).map_err(KeeperError::system("prepare for children"))?;
        let epoll = Epoll::new().map_err(KeeperError::system("create an epoll set"))?;
        epoll
            .add(&signals, SIGNALS)
            .map_err(KeeperError::system("wait for signals"))?;
        let state = State::new(launcher, service, stored);
        Ok(Self {
            runtime,
            ..Self::begin(starter, signals, epoll, state)
        })
    }

    /// One that has not done anything yet and begins by starting a daemon.
    pub(super) fn begin(starter: &'a mut dyn DaemonStarter, signals: Signals, epoll: Epoll, state: State) -> Self {
        Self {
            starter,
            runtime: None,
            signals,
            epoll,
            state,
            lock: None,
            link: None,
            writing: false,
            daemon: None,
            restart: Restart::default(),
            foreign: BTreeSet::new(),
            upgrade: None,
            start_at: Some(Moment(0)),
            kill_at: None,
            quiet_at: None,
            leave_at: None,
            leaving: false,
        }
    }
}

impl Keeper<'_> {
    /// Until the end; the exit code.
    pub(super) fn serve(mut self) -> u8 {
        let mut events = Vec::new();
        loop {
            self.timers();
            let helped = self.runtime.as_ref().is_some_and(Runtime::has_helper);
            if self.leaving && self.daemon.is_none() && !helped {
                self.say_goodbye();
                return self.exit_code();
            }
            let told = self.state.service.flush();
            let retell = (!told).then(|| clock::monotonic().after(RETELL));
            let due = [self.next_timer(), self.quiet_at, retell].into_iter().flatten().min();
            let wait = due.map(|at| Millis(at.since(clock::monotonic()).0 + 1));
            if let Err(error) = self.epoll.wait(wait, &mut events) {
                note(&format!("cannot wait for events: {error}"));
            }
            self.rest(events.is_empty());
            for event in &events {
                self.event(*event);
            }
            self.upgrade_step();
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
        let helper = self.runtime.as_ref().filter(|_| !self.leaving).and_then(Runtime::due);
        let hung_at = self.state.service.hung_at();
        [
            self.start_at,
            self.kill_at,
            self.leave_at,
            self.upgrade_due(),
            hung_at,
            helper,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn timers(&mut self) {
        let now = clock::monotonic();
        if self.kill_at.is_some_and(|at| at <= now) {
            self.kill_at = None;
            self.kill_daemon("it did not end after its link");
            if let Some(runtime) = self.runtime.as_ref().filter(|_| self.leaving) {
                runtime.kill_helper();
            }
        }
        if self.state.service.hung_at().is_some_and(|at| at <= now) {
            self.state.service.hung();
            self.kill_daemon("it gave no sign of life");
        }
        if self.leave_at.is_some_and(|at| at <= now) {
            self.leave_at = None;
            self.kill_daemon("it did not answer when it was asked to detach");
            self.leave();
        }
        self.upgrade_timers(now);
        if self.start_at.is_some_and(|at| at <= now) && !self.leaving {
            self.start_at = None;
            self.start_daemon(now);
        }
        if let Some(runtime) = self.runtime.as_mut().filter(|_| !self.leaving)
            && let Err(error) = runtime.tick(now)
        {
            note(&format!("cannot start a helper: {error}"));
        }
    }

    pub(super) fn kill_daemon(&self, why: &str) {
        if let Some(Spawned { pidfd, .. }) = self.daemon.as_ref().and_then(|daemon| daemon.process.as_ref()) {
            note(&format!("killing the daemon: {why}"));
            drop(pidfd::signal(pidfd, libc::SIGKILL, Scope::Process));
        }
    }

    /// The daemon's pid; 0 if there is none, or it is no child of this keeper.
    pub(super) fn daemon_pid(&self) -> i32 {
        let process = self.daemon.as_ref().and_then(|daemon| daemon.process.as_ref());
        process.map_or(0, |process| process.pid)
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
        let started = self.starter.start().and_then(|daemon| self.welcome(daemon, now));
        if let Err(error) = started {
            let wait = self.restart.wait_after(Millis::ZERO);
            note(&format!("cannot start the daemon: {error}; next try in {} ms", wait.0));
            self.start_at = Some(now.after(wait));
        }
    }

    /// A daemon was started.
    pub(super) fn welcome(&mut self, daemon: DaemonProcess, now: Moment) -> io::Result<()> {
        let link = Link::new(daemon.link)?;
        self.epoll.add(&link, LINK)?;
        self.link = Some(link);
        self.writing = false;
        self.state.service.daemon(daemon.process.as_ref().map(|_| now));
        self.daemon = Some(Daemon {
            process: daemon.process,
            started: now,
        });
        let pid = self.daemon_pid();
        if let Some(last) = self.state.last.as_mut().filter(|last| last.daemon_after == 0) {
            last.daemon_after = pid;
        }
        Ok(())
    }

    pub(super) fn read_link(&mut self) {
        let mut replies = Vec::new();
        loop {
            for _ in 0..BATCH {
                let Some(link) = self.link.as_mut() else { return };
                match link.receive::<ToKeeper>() {
                    Ok(Some((message, fds))) => {
                        if let ToKeeper::Follow { run, .. } = &message {
                            self.unwatch(*run);
                        }
                        let effect = self.state.handle(message, fds, &mut replies);
                        self.send(&mut replies);
                        match effect {
                            Effect::None => {}
                            Effect::Watch(runs) => self.watch(&runs),
                            Effect::Leave => return self.leave(),
                            Effect::Upgrade(order) => self.upgrade_ordered(order),
                            Effect::Proven(id) => self.proven(id),
                            Effect::Unfit(why) => self.unfit(why),
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

    pub(super) fn announce(&mut self, message: Option<FromKeeper>) {
        let mut replies: Vec<Reply> = message.into_iter().map(|message| (message, Vec::new())).collect();
        self.send(&mut replies);
    }

    pub(super) fn flush(&mut self) {
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
            Some(Daemon { process: None, .. }) => self.daemon_gone(None),
            Some(_) => self.kill_at = Some(clock::monotonic().after(GRACE)),
            None => {}
        }
    }

    pub(super) fn close_link(&mut self) {
        self.state.welcomed = false;
        if let Some(link) = self.link.take() {
            self.epoll.remove(&link);
        }
    }

    fn read_signals(&mut self) {
        while let Ok(Some(signal)) = self.signals.next() {
            match signal {
                libc::SIGCHLD => self.reap(),
                libc::SIGTERM | libc::SIGINT | libc::SIGQUIT => self.terminate(),
                libc::SIGUSR1 if !self.leaving && self.leave_at.is_none() => self.detach(),
                libc::SIGUSR2 => self.reopen(),
                libc::SIGHUP => self.hang_up(),
                _ => {}
            }
        }
    }

    pub(super) fn reap(&mut self) {
        while let Ok(Some(reaped)) = reap::next() {
            let daemon = self.daemon.as_ref().and_then(|daemon| daemon.process.as_ref());
            if daemon.is_some_and(|daemon| daemon.pid == reaped.pid) {
                note(&format!("the daemon (process {}) ended: {}", reaped.pid, reaped.exit));
                self.daemon_gone(Some(reaped.exit));
            } else if self.is_check(reaped.pid, &reaped.exit) {
                // Its end was the answer.
            } else if let Some(run) = self.state.children.run_of(reaped.pid) {
                self.unwatch(run);
                let message = self.state.exited(run, reaped.exit);
                self.announce(message);
            } else {
                // A helper of a runtime, or an orphan of whoever.
                self.helper_ended(reaped.pid, &reaped.exit);
            }
        }
    }

    fn daemon_gone(&mut self, how: Option<Exit>) {
        let Some(daemon) = self.daemon.take() else { return };
        self.state.service.daemon(None);
        // What it had already sent still counts: an acknowledgement, or the order to leave.
        self.read_link();
        self.close_link();
        self.kill_at = None;
        if !self.leaving && !self.upgrade_goes_on(how) {
            let now = clock::monotonic();
            self.start_at = Some(now.after(self.restart.wait_after(now.since(daemon.started))));
        }
    }

    pub(super) fn watch(&mut self, runs: &[u64]) {
        self.foreign.extend(runs);
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

    /// Ends the watch of a run's process, if there is one: a pidfd whose process has ended would be readable for ever.
    fn unwatch(&mut self, run: u64) {
        if self.foreign.remove(&run)
            && let Some(fd) = self.state.children.get(run).and_then(|child| child.pidfd())
        {
            self.epoll.remove(&**fd);
        }
    }

    fn foreign_ended(&mut self, token: u64) {
        // It may be our child all the same: then the whole truth is told to us alone.
        self.reap();
        let run = i32::try_from(token & !FOREIGN)
            .ok()
            .and_then(|pid| self.state.children.run_of(pid));
        let Some(run) = run else { return };
        let Some(fd) = self.state.children.get(run).and_then(|child| child.pidfd()).cloned() else {
            return;
        };
        if pidfd::alive(&fd) {
            // The pid was given to another run since.
            return;
        }
        self.unwatch(run);
        let message = self.state.exited(run, ended(&fd));
        self.announce(message);
    }
}

/// Writes a line to standard error, which is the keeper's own log. Failures do not matter.
pub(super) fn note(text: &str) {
    drop(writeln!(std::io::stderr(), "{} clmgr keeper: {text}", clock::wall()));
}
