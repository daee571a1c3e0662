//! What the keeper knows, and how it answers messages.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::children::Children;
use super::handover::{self, Saved, SavedFd};
use super::launch::{KEPT, Launcher, adopt};
use super::protocol::{
    FromKeeper, Held, MIN_VERSION, Restored, SpawnRequest, ToKeeper, UpgradeOrder, UpgradeOutcome, VERSION, agree,
};
use super::service::{self, Service};
use super::upgrade;
use crate::model::exit::Exit;
use crate::model::time::Moment;
use crate::model::version::version;
use crate::os::{clock, fds};

/// A message with its descriptors, on its way to the daemon.
pub(super) type Reply = (FromKeeper, Vec<Arc<OwnedFd>>);

/// What a message asks of the loop.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing.
    None,
    /// Runs whose end is to be noticed by their pidfd.
    Watch(Vec<u64>),
    /// End the keeper.
    Leave,
    /// Replace daemon and keeper.
    Upgrade(UpgradeOrder),
    /// The new daemon of this order is at work.
    Proven(u64),
    /// The new daemon cannot take over.
    Unfit(String),
}

/// Everything but the loop.
#[derive(Debug)]
pub(super) struct State {
    pub(super) children: Children,
    /// A signal asked the keeper to end.
    pub(super) terminating: bool,
    /// The daemon has said `Hello` and was understood.
    pub(super) welcomed: bool,
    /// The version that is spoken with it.
    pub(super) spoken: u32,
    pub(super) service: Service,
    /// A runtime has started everything it was to start.
    pub(super) applied: bool,
    /// The exit code the daemon wants.
    pub(super) outcome: Option<u8>,
    /// What the next daemon is to prove itself for.
    pub(super) trial: Option<UpgradeOrder>,
    /// How the last upgrade ended.
    pub(super) last: Option<UpgradeOutcome>,
    /// When the daemon left to which the next one is the way back.
    pub(super) left: Option<Moment>,
    pub(super) launcher: Launcher,
    stored: BTreeMap<String, Arc<OwnedFd>>,
    keeper_pid: i32,
}

impl State {
    pub(super) fn new(launcher: Launcher, service: Service, stored: Vec<(String, OwnedFd)>) -> Self {
        Self {
            children: Children::default(),
            terminating: false,
            welcomed: false,
            spoken: 0,
            service,
            applied: false,
            outcome: None,
            trial: None,
            last: None,
            left: None,
            launcher,
            stored: stored.into_iter().map(|(name, fd)| (name, Arc::new(fd))).collect(),
            keeper_pid: i32::try_from(std::process::id()).unwrap_or(0),
        }
    }

    /// Acts upon one message; answers are appended to `replies`.
    pub(super) fn handle(&mut self, message: ToKeeper, attached: Vec<OwnedFd>, replies: &mut Vec<Reply>) -> Effect {
        let mut say = |reply: FromKeeper| replies.push((reply, Vec::new()));
        if !self.welcomed && !matches!(message, ToKeeper::Hello { .. }) {
            say(refused("say Hello first"));
            return Effect::None;
        }
        match message {
            ToKeeper::Hello {
                min,
                current,
                daemon_version,
            } => self.hello(min, current, &daemon_version, replies),
            ToKeeper::Spawn(request) => replies.push(self.spawn(request, &attached)),
            ToKeeper::Ack { up_to } => self.children.ack(up_to),
            ToKeeper::Store { name } => match attached.into_iter().next() {
                Some(fd) => self.store(name, fd),
                None => say(refused("Store came without a descriptor")),
            },
            ToKeeper::Fetch { name } => {
                let fd = self.stored.get(&name).map(Arc::clone);
                let found = fd.is_some();
                replies.push((FromKeeper::Stored { name, found }, fd.into_iter().collect()));
            }
            ToKeeper::Drop { name } => self.unstore(&name),
            ToKeeper::Names => say(FromKeeper::StoredNames {
                names: self.stored.keys().cloned().collect(),
            }),
            ToKeeper::Release { run } => {
                if self.children.is_dead(run)
                    && let Some(child) = self.children.get(run)
                {
                    self.service.remove_child(run, child);
                }
                if !self.children.release(run) {
                    say(refused(&format!("run {run} is alive; its descriptors stay")));
                }
            }
            ToKeeper::Table => replies.extend(self.children.parts()),
            ToKeeper::Follow { run, pid } => {
                let process = attached.into_iter().next().map(|fd| Arc::new(fds::lift(fd, KEPT)));
                if process.is_some_and(|process| self.children.follow(run, pid, process)) {
                    return Effect::Watch(vec![run]);
                }
                say(refused(&format!(
                    "run {run} does not follow process {pid}: one of them is not known"
                )));
            }
            ToKeeper::Restore { children } => return self.restore(children, attached, replies),
            ToKeeper::Exit { force } => {
                let living = self.children.living();
                if force || living == 0 {
                    return Effect::Leave;
                }
                say(refused(&format!("{living} children are alive")));
            }
            ToKeeper::Ping => say(FromKeeper::Pong),
            ToKeeper::Notify { text } => self.service.say(&text, clock::monotonic()),
            ToKeeper::Outcome { code } => self.outcome = Some(code),
            ToKeeper::Upgrade(order) => return Effect::Upgrade(order),
            ToKeeper::Proven { id } => return Effect::Proven(id),
            ToKeeper::Unfit { why } => return Effect::Unfit(why),
        }
        Effect::None
    }

    fn store(&mut self, name: String, fd: OwnedFd) {
        let fd = Arc::new(fds::lift(fd, 64));
        if self.stored.contains_key(&name) {
            self.service.remove(&name);
        }
        self.service.store(&name, &fd);
        self.stored.insert(name, fd);
    }

    fn unstore(&mut self, name: &str) {
        // A child that was taken over still needs what the service manager has of it.
        let is_child = service::run_of(name).is_some_and(|run| self.children.contains(run));
        if self.stored.remove(name).is_some() && !is_child {
            self.service.remove(name);
        }
    }

    /// What is known here, for the next build.
    pub(super) fn save(&self) -> Saved {
        let (children, last_seq) = self.children.save();
        let stored = |(name, fd): (&String, &Arc<OwnedFd>)| SavedFd {
            name: name.clone(),
            fd: handover::number(fd),
        };
        Saved {
            children,
            last_seq,
            stored: self.stored.iter().map(stored).collect(),
            terminating: self.terminating,
            spoken: if self.welcomed { self.spoken } else { 0 },
            last: self.last.clone(),
            ..Saved::default()
        }
    }

    /// What the build before knew.
    pub(super) fn resume(launcher: Launcher, service: Service, saved: Saved) -> io::Result<Self> {
        let stored = |SavedFd { name, fd }| Ok((name, upgrade::take(fd)?));
        Ok(Self {
            children: Children::restore(saved.children, saved.last_seq)?,
            terminating: saved.terminating,
            welcomed: saved.spoken > 0,
            spoken: saved.spoken,
            last: saved.last,
            stored: saved.stored.into_iter().map(stored).collect::<io::Result<_>>()?,
            ..Self::new(launcher, service, Vec::new())
        })
    }

    /// Records an end; its announcement is for a daemon that is there to hear it.
    pub(super) fn exited(&mut self, run: u64, exit: Exit) -> Option<FromKeeper> {
        let announcement = self.children.exited(run, exit, clock::monotonic());
        announcement.filter(|_| self.welcomed)
    }

    fn hello(&mut self, min: u32, current: u32, daemon: &str, replies: &mut Vec<Reply>) {
        let mut say = |reply: FromKeeper| replies.push((reply, Vec::new()));
        self.spoken = agree(min, current).unwrap_or(0);
        self.welcomed = self.spoken > 0;
        if !self.welcomed {
            let version = version();
            say(refused(&format!(
                "the daemon {daemon} speaks protocol versions {min} to {current}, this keeper {version} {MIN_VERSION} to {VERSION}; \
                 stop both with `clmgr kill` of the older version, then start again"
            )));
            return;
        }
        say(FromKeeper::Welcome {
            min: MIN_VERSION,
            current: VERSION,
            keeper_pid: self.keeper_pid,
            version: version().to_owned(),
            children: u32::try_from(self.children.count()).unwrap_or(u32::MAX),
        });
        if self.spoken >= 2 {
            if let Some(order) = self.trial.clone() {
                say(FromKeeper::Trial(order));
            }
            if let Some(last) = &mut self.last {
                if let Some(left) = self.left.take() {
                    last.gap_ms = clock::monotonic().since(left).0;
                }
                say(FromKeeper::Upgraded(last.clone()));
                last.fresh = false;
            }
        }
        for announcement in self.children.announcements() {
            say(announcement);
        }
        if self.applied {
            say(FromKeeper::Applied);
        }
        if self.terminating {
            say(FromKeeper::Terminate);
        }
    }

    fn spawn(&mut self, request: SpawnRequest, attached: &[OwnedFd]) -> Reply {
        let run = request.run;
        if self.children.contains(run) {
            return (refused(&format!("run {run} exists already")), Vec::new());
        }
        match self.launcher.launch(request, attached) {
            Ok(child) => {
                let message = FromKeeper::Spawned {
                    run,
                    pid: child.pid,
                    start: child.started,
                    held: child.held(),
                };
                let fds = child.descriptors().collect();
                self.service.store_child(run, &child);
                self.children.insert(run, child);
                (message, fds)
            }
            Err(error) => (
                FromKeeper::SpawnFailed {
                    run,
                    step: error.step,
                    errno: error.errno,
                },
                Vec::new(),
            ),
        }
    }

    fn restore(&mut self, children: Vec<Restored>, attached: Vec<OwnedFd>, replies: &mut Vec<Reply>) -> Effect {
        let announced: usize = children.iter().map(|child| Held::count(child.held)).sum();
        if announced != attached.len() {
            let why = format!("Restore announced {announced} descriptors, {} came", attached.len());
            replies.push((refused(&why), Vec::new()));
            return Effect::None;
        }
        let mut fds = attached.into_iter();
        let mut watch = Vec::new();
        for restored in children {
            let run = restored.run;
            if self.children.contains(run) {
                fds.by_ref().take(restored.held.count()).for_each(drop);
                replies.push((refused(&format!("run {run} exists already")), Vec::new()));
                continue;
            }
            let (child, exit) = adopt(restored, &mut fds);
            match exit {
                None => {
                    // What the service manager has already it does not take twice.
                    self.service.store_child(run, &child);
                    self.children.insert(run, child);
                    watch.push(run);
                }
                Some(exit) => {
                    self.children.insert_dead(run, child);
                    replies.extend(self.exited(run, exit).map(|message| (message, Vec::new())));
                }
            }
        }
        Effect::Watch(watch)
    }
}

fn refused(why: &str) -> FromKeeper {
    FromKeeper::Refused { why: why.to_owned() }
}
