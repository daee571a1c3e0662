//! Replacing daemon and keeper by another build.
//!
//! ```text
//!  daemon: Upgrade ─▶ CHECKING   a child of the new build reads this keeper's state
//!                       │ it cannot ─▶ nothing was touched; the daemon is told why
//!                       ▼ Leave
//!                     LEAVING    the daemon writes everything and ends (or is killed)
//!                       ▼ the new build's daemon is started, and told Trial
//!                     TRIAL      it opens the state, finds every process, serves, and says Proven
//!                       │ Unfit, dead or late ─▶ BACK
//!                       ▼ Proven, and nothing is half said on the link
//!                     (execve)   same process, same children: the new build's keeper reads the state
//!                       │ it cannot ─▶ it executes the old build by its descriptor ─▶ BACK
//!                       ▼ Upgraded
//!  BACK: the new daemon ends (or is killed); the old build's is started, and told Upgraded with the reason
//! ```

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use super::handover::{Saved, SavedDaemon, SavedUpgrade};
use super::launch::KEPT;
use super::protocol::{FromKeeper, UpgradeOrder, UpgradeOutcome};
use super::serve::{Keeper, note};
use crate::model::duration::Millis;
use crate::model::exit::Exit;
use crate::model::time::Moment;
use crate::model::version::version;
use crate::os::cstrings::CStrings;
use crate::os::pidfd::{self, Scope};
use crate::os::spawn::{SpawnPlan, Spawned, spawn};
use crate::os::{clock, detach, exec, fds};

/// How long the new build may take to read a state.
const CHECK: Millis = Millis(3_000);
/// How long a daemon may take to leave.
const LEAVE: Millis = Millis(3_000);
/// How long the new daemon may take to prove itself, and how much longer for each child.
const PROVE: Millis = Millis(5_000);
const PROVE_EACH: Millis = Millis(5);
/// How long the link may take to fall silent.
const SILENCE: Millis = Millis(2_000);
/// Where the new build finds a state that it is to read.
const STATE_FD: i32 = 3;
/// Most bytes of its complaint.
const MOST: usize = 2_000;

/// One upgrade under way.
#[derive(Debug)]
pub(super) struct Upgrade {
    pub(super) order: UpgradeOrder,
    pub(super) phase: Phase,
    /// When this phase is at its end.
    pub(super) until: Moment,
    /// When the old daemon was told to leave.
    pub(super) left: Moment,
    /// When the new one had proven itself.
    pub(super) proven: Moment,
    pub(super) daemon_before: i32,
    /// Why the new build is not to stay.
    pub(super) why: Option<String>,
}

#[derive(Debug)]
pub(super) enum Phase {
    Checking { child: Spawned, complaint: OwnedFd },
    Leaving,
    Trial,
    Proven,
    Back,
}

impl Keeper<'_> {
    /// The daemon gives the order, or its last words.
    pub(super) fn upgrade_ordered(&mut self, order: UpgradeOrder) {
        if let Some(upgrade) = &mut self.upgrade {
            if upgrade.order.id == order.id {
                upgrade.order.seen = order.seen;
            } else {
                self.refuse_upgrade(&order, "another upgrade is under way");
            }
            return;
        }
        if self.leaving || self.state.terminating {
            return self.refuse_upgrade(&order, "clmgr was asked to end");
        }
        match self.begin_check(&order) {
            Ok((child, complaint)) => {
                self.upgrade = Some(Upgrade {
                    order,
                    phase: Phase::Checking { child, complaint },
                    until: clock::monotonic().after(CHECK),
                    left: Moment(0),
                    proven: Moment(0),
                    daemon_before: self.daemon_pid(),
                    why: None,
                });
            }
            Err(error) => {
                let why = format!("it cannot be asked whether it understands this keeper: {error}");
                self.refuse_upgrade(&order, &why);
            }
        }
    }

    /// Nothing was touched.
    fn refuse_upgrade(&mut self, order: &UpgradeOrder, why: &str) {
        note(&format!("no upgrade to {}: {why}", shown(order)));
        let daemon = self.daemon_pid();
        let outcome = UpgradeOutcome {
            daemon_after: daemon,
            ..outcome(order, daemon, Some(why.to_owned()))
        };
        self.announce(Some(FromKeeper::Upgraded(outcome)));
    }

    /// Lets the new build read the state as it is now.
    fn begin_check(&self, order: &UpgradeOrder) -> io::Result<(Spawned, OwnedFd)> {
        let state = exec::in_memory(&self.save().write())?;
        let (complaint, theirs) = fds::pipe()?;
        let null = fds::null()?;
        let argv = CStrings::from_iter([&order.exe[..], b"keeper", b"--check-state", b"3"]);
        let mut plan = SpawnPlan::new(argv, detach::inherited_env(&[]));
        plan.fds = vec![
            (0, null.as_fd()),
            (1, null.as_fd()),
            (2, theirs.as_fd()),
            (STATE_FD, state.as_fd()),
        ];
        let child = spawn(&plan).map_err(io::Error::other)?;
        Ok((child, fds::lift(complaint, KEPT)))
    }

    /// True if this was the child that has read the state.
    pub(super) fn is_check(&mut self, pid: i32, exit: &Exit) -> bool {
        let Some(upgrade) = &mut self.upgrade else { return false };
        let Phase::Checking { child, complaint } = &upgrade.phase else {
            return false;
        };
        if child.pid != pid {
            return false;
        }
        if !exit.is_success() {
            let said = fds::read_now(complaint, MOST).unwrap_or_default();
            let said = String::from_utf8_lossy(&said);
            let why = match said.trim().lines().last() {
                Some(line) => format!("its keeper cannot take over from this one: {line}"),
                None => format!("its keeper cannot take over from this one: it ended with {exit}"),
            };
            self.abandon(&why);
            return true;
        }
        let now = clock::monotonic();
        upgrade.phase = Phase::Leaving;
        (upgrade.until, upgrade.left) = (now.after(LEAVE), now);
        let id = upgrade.order.id;
        self.announce(Some(FromKeeper::Leave { id }));
        true
    }

    /// Ends an upgrade before anything was touched.
    fn abandon(&mut self, why: &str) {
        if let Some(upgrade) = self.upgrade.take() {
            if let Phase::Checking { child, .. } = &upgrade.phase {
                // It may have ended by itself.
                let _gone = pidfd::signal(&child.pidfd, libc::SIGKILL, Scope::Process);
            }
            self.refuse_upgrade(&upgrade.order, why);
        }
    }

    /// The daemon has ended. True if what follows is decided here.
    pub(super) fn upgrade_goes_on(&mut self, how: Option<Exit>) -> bool {
        let Some(upgrade) = &mut self.upgrade else { return false };
        match upgrade.phase {
            Phase::Checking { .. } => {
                // The next daemon hears of it.
                let why = "the daemon ended before anything was done";
                let failed = outcome(&upgrade.order, upgrade.daemon_before, Some(why.to_owned()));
                self.abandon(why);
                self.state.last = Some(failed);
                false
            }
            Phase::Leaving => {
                self.start_other();
                true
            }
            Phase::Trial | Phase::Proven | Phase::Back => {
                let why = upgrade.why.take().unwrap_or_else(|| {
                    let how = how.map_or_else(|| "ended".to_owned(), |exit| format!("ended ({exit})"));
                    format!("its daemon {how} before it was fully in charge")
                });
                self.go_back(&why);
                true
            }
        }
    }

    fn start_other(&mut self) {
        let Some(upgrade) = &mut self.upgrade else { return };
        let order = upgrade.order.clone();
        let now = clock::monotonic();
        let children = u64::try_from(self.state.children.count()).unwrap_or(0);
        upgrade.phase = Phase::Trial;
        upgrade.until = now.after(Millis(PROVE.0 + PROVE_EACH.0.saturating_mul(children)));
        self.state.trial = Some(order.clone());
        let started = self.starter.start_other(Path::new(OsStr::from_bytes(&order.exe)));
        if let Err(error) = started.and_then(|daemon| self.welcome(daemon, now)) {
            self.go_back(&format!("its daemon cannot be started: {error}"));
        }
    }

    /// The old build's daemon is started, and told why.
    fn go_back(&mut self, why: &str) {
        let Some(upgrade) = self.upgrade.take() else { return };
        note(&format!("the upgrade to {} failed: {why}", shown(&upgrade.order)));
        self.state.trial = None;
        self.state.left = Some(upgrade.left);
        self.state.last = Some(outcome(&upgrade.order, upgrade.daemon_before, Some(why.to_owned())));
        self.start_at = Some(clock::monotonic());
    }

    /// The new daemon is at work.
    pub(super) fn proven(&mut self, id: u64) {
        if let Some(upgrade) = &mut self.upgrade
            && matches!(upgrade.phase, Phase::Trial)
            && upgrade.order.id == id
        {
            let now = clock::monotonic();
            upgrade.phase = Phase::Proven;
            (upgrade.until, upgrade.proven) = (now.after(SILENCE), now);
            self.state.trial = None;
        }
    }

    /// The new daemon says that it is not up to it; it ends.
    pub(super) fn unfit(&mut self, why: String) {
        if let Some(upgrade) = &mut self.upgrade
            && matches!(upgrade.phase, Phase::Trial)
        {
            upgrade.why = Some(why);
        }
    }

    /// When something is to be done about an upgrade without anything happening.
    pub(super) fn upgrade_due(&self) -> Option<Moment> {
        self.upgrade.as_ref().map(|upgrade| upgrade.until)
    }

    /// Gives up what takes too long.
    pub(super) fn upgrade_timers(&mut self, now: Moment) {
        let Some(upgrade) = self.upgrade.as_mut().filter(|upgrade| upgrade.until <= now) else {
            return;
        };
        upgrade.until = now.after(LEAVE);
        let late = |what: &str, limit: Millis| Some(format!("its daemon {what} within {limit}"));
        match upgrade.phase {
            Phase::Checking { .. } => {
                return self.abandon(&format!("its keeper did not read this one's state within {CHECK}"));
            }
            Phase::Leaving | Phase::Back => {}
            Phase::Trial => upgrade.why = late("did not prove itself", PROVE),
            Phase::Proven => upgrade.why = late("did not fall silent", SILENCE),
        }
        self.kill_daemon("it did not do in time what the upgrade needs");
    }

    /// Replaces this process as soon as nothing is half said.
    pub(super) fn upgrade_step(&mut self) {
        let is_proven = |upgrade: &Upgrade| matches!(upgrade.phase, Phase::Proven);
        if !self.upgrade.as_ref().is_some_and(is_proven) {
            return;
        }
        // What the service manager was not told yet would be lost, too.
        if self.link.as_ref().is_some_and(super::link::Link::is_quiet) && self.state.service.flush() {
            let error = self.replace_self();
            self.back_out(format!("the keeper cannot be replaced: {error}"));
        }
    }

    /// Returns only if it failed.
    fn replace_self(&mut self) -> io::Error {
        let exe = self.upgrade.as_ref().map(|upgrade| upgrade.order.exe.clone());
        let exe = exe.unwrap_or_default();
        let prepared = exec::open_own().and_then(|own| {
            let saved = self.save();
            let mut numbers = saved.descriptors();
            let state = exec::in_memory(&saved.write())?;
            numbers.extend([own.as_raw_fd(), state.as_raw_fd()]);
            Ok((own, state, numbers))
        });
        let (own, state, numbers) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return error,
        };
        let (state_number, own_number) = (state.as_raw_fd().to_string(), own.as_raw_fd().to_string());
        let args = ["keeper", "--resume", &state_number, "--back", &own_number].map(OsStr::new);
        fds::keep_across_exec(&numbers, true);
        let error = exec::replace(Path::new(OsStr::from_bytes(&exe)), &args);
        fds::keep_across_exec(&numbers, false);
        error
    }

    /// The new build's daemon is there, but its keeper cannot be: both go.
    pub(super) fn back_out(&mut self, why: String) {
        if let Some(upgrade) = &mut self.upgrade {
            upgrade.phase = Phase::Back;
            upgrade.until = clock::monotonic().after(LEAVE);
            upgrade.why = Some(why);
            let id = upgrade.order.id;
            self.announce(Some(FromKeeper::Leave { id }));
        }
    }

    /// This is the new build's keeper, and the daemon is the new one.
    pub(super) fn upgraded(&mut self) {
        let Some(upgrade) = self.upgrade.take() else { return };
        let runs = upgrade
            .order
            .seen
            .as_ref()
            .map(|seen| &seen.runs[..])
            .unwrap_or_default();
        let alive = |run: &&u64| self.state.children.get(**run).is_some_and(|child| child.exit.is_none());
        let done = UpgradeOutcome {
            daemon_after: self.daemon_pid(),
            processes: u32::try_from(runs.iter().filter(alive).count()).unwrap_or(u32::MAX),
            gap_ms: upgrade.proven.since(upgrade.left).0,
            ..outcome(&upgrade.order, upgrade.daemon_before, None)
        };
        note(&format!("upgraded to {}", shown(&upgrade.order)));
        self.state.last = Some(UpgradeOutcome {
            fresh: false,
            ..done.clone()
        });
        self.announce(Some(FromKeeper::Upgraded(done)));
    }

    /// Everything, for the next build.
    pub(super) fn save(&self) -> Saved {
        let (nofile, oom_score_adj) = self.state.launcher.inherited();
        let raw = |fd: &dyn AsRawFd| fd.as_raw_fd();
        let (signed, proven) = self.state.service.known();
        let daemon = self.daemon.as_ref().map(|daemon| SavedDaemon {
            pid: self.daemon_pid(),
            pidfd: daemon.process.as_ref().map(|process| raw(&process.pidfd)),
            started: daemon.started,
            signed,
        });
        let upgrade = self.upgrade.as_ref().map(|upgrade| SavedUpgrade {
            order: upgrade.order.clone(),
            left: upgrade.left,
            proven: upgrade.proven,
            daemon_before: upgrade.daemon_before,
        });
        Saved {
            version: version().to_owned(),
            lock: self.lock.as_ref().map(|lock| lock.as_fd().as_raw_fd()),
            link: self.link.as_ref().map(|link| raw(link)),
            daemon,
            foreign: self.foreign.iter().copied().collect(),
            nofile,
            oom_score_adj,
            failures: self.restart.failures(),
            upgrade,
            proven,
            ..self.state.save()
        }
    }
}

/// An outcome that was told to nobody yet.
fn outcome(order: &UpgradeOrder, daemon_before: i32, failed: Option<String>) -> UpgradeOutcome {
    UpgradeOutcome {
        id: order.id,
        exe: order.exe.clone(),
        from: order.from.clone(),
        to: order.to.clone(),
        failed,
        daemon_before,
        keeper: version().to_owned(),
        fresh: true,
        ..UpgradeOutcome::default()
    }
}

/// The program and its version.
fn shown(order: &UpgradeOrder) -> String {
    format!("{} ({})", order.to, String::from_utf8_lossy(&order.exe))
}

/// Restores what [`Keeper::save`] wrote about an upgrade.
pub(super) fn restored(saved: SavedUpgrade) -> Upgrade {
    Upgrade {
        order: saved.order,
        phase: Phase::Proven,
        until: clock::monotonic().after(SILENCE),
        left: saved.left,
        proven: saved.proven,
        daemon_before: saved.daemon_before,
        why: None,
    }
}

/// Shared descriptors by their numbers, taken over from the build before.
pub(super) fn take(number: i32) -> io::Result<Arc<OwnedFd>> {
    fds::inherited(number).map(Arc::new)
}
