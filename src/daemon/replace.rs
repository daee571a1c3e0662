//! A keeper that died is replaced: the new one gets the daemon's own copies of every descriptor and follows the
//! living processes by pidfd.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use crate::daemon::Daemon;
use crate::daemon::handshake::Handshake;
use crate::daemon::runs::Pipes;
use crate::daemon::start::DaemonError;
use crate::keeper::link::Link;
use crate::keeper::protocol::{FromKeeper, MIN_VERSION, ToKeeper, VERSION};
use crate::keeper::{LINK_FD, LINK_VAR, READY_VAR};
use crate::model::duration::Millis;
use crate::model::event::EventKind;
use crate::model::names::RunId;
use crate::model::version::version;
use crate::os::{clock, detach, exec, fds, poll, procfs};

impl Daemon {
    /// Starts another keeper and hands everything over.
    pub(crate) fn replace_keeper(&mut self) -> Result<(), DaemonError> {
        let failed = |doing: &str| DaemonError::system(doing.to_owned());
        // What is decided but not ordered yet would be ordered twice.
        self.perform_all();
        let (ours, theirs) = fds::socketpair().map_err(failed("make a link for a new keeper"))?;
        let exe = std::env::current_exe().map_err(failed("find the program of a new keeper"))?;
        let exe = exec::own(&exe);
        let env = detach::inherited_env(&[LINK_VAR, READY_VAR]);
        let args = ["keeper", "--daemon-link", "3"].map(OsStr::new);
        detach::spawn_detached(&exe, &args, env, &self.home.own_log(), &[(LINK_FD, theirs.as_fd())]).map_err(
            |error| DaemonError::System {
                doing: "start a new keeper".to_owned(),
                source: std::io::Error::other(error),
            },
        )?;
        drop(theirs);
        let mut link = Link::new(ours).map_err(failed("use the new keeper's link"))?;
        self.keeper_pid = welcome(&mut link)?;
        self.upgrades.keeper = Some(Handshake::own().protocol);
        version().clone_into(&mut self.upgrades.keeper_version);
        self.keeper = crate::os::watch::for_both(link).map_err(failed("watch the new keeper's link"))?;
        self.keeper_born = crate::daemon::start::born(self.keeper_pid);
        self.unacked = None;
        self.ordered.clear();
        self.store_again();
        self.hand_over();
        self.runtime_hand_over();
        let message = format!(
            "the keeper died; a new one (pid {}) took over {} processes",
            self.keeper_pid,
            self.handles.len()
        );
        tracing::warn!("{message}");
        self.note_running();
        self.hub.announce(clock::wall(), EventKind::KeeperReplaced, message);
        self.upgraded_by_force();
        // Whoever killed the keeper may be after the daemon, too.
        self.store.write(Box::new(|_| {}));
        Ok(())
    }

    fn hand_over(&mut self) {
        self.store_sockets();
        let runs: Vec<RunId> = self
            .handles
            .iter()
            .filter(|(_, handle)| handle.exit.is_none())
            .map(|(run, _)| *run)
            .collect();
        for run in runs {
            let Some(handle) = self.handles.get(&run) else { continue };
            let (app, slot, pid) = (handle.app, handle.slot, handle.pid);
            let copy = |fd: &Arc<OwnedFd>| fd.try_clone().ok();
            let pipes = Pipes {
                pidfd: copy(&handle.pidfd),
                out: fds::reopen_pipe(pid, 1).ok(),
                err: fds::reopen_pipe(pid, 2).ok(),
                stdin: handle.stdin.as_ref().and_then(copy),
                channel: handle.channel.as_ref().and_then(copy),
            };
            let start_ticks = procfs::identity(pid).map_or(0, |identity| identity.start_ticks);
            let generation = self
                .core
                .owner(run)
                .and_then(|app| app.runs.get(&run))
                .map_or(0, |run| run.generation);
            self.restore(run, app, slot, generation, start_ticks, pid, &pipes);
        }
        // Orders that the dead keeper may or may not have carried out.
        let waiting: Vec<RunId> = self
            .core
            .apps
            .values()
            .flat_map(|app| app.runs.values())
            .filter(|run| run.phase == crate::supervise::run::Phase::Spawning && !self.handles.contains_key(&run.id))
            .map(|run| run.id)
            .collect();
        self.find_or_order_again(&waiting);
        let helpers: Vec<RunId> = self.helpers.keys().copied().collect();
        for run in helpers {
            self.end_helper(run);
        }
    }
}

/// Introduces us to a keeper that has nothing yet; its pid.
fn welcome(link: &mut Link) -> Result<i32, DaemonError> {
    let hello = ToKeeper::Hello {
        min: MIN_VERSION,
        current: VERSION,
        daemon_version: version().to_owned(),
    };
    link.queue(&hello, Vec::new()).map_err(DaemonError::Keeper)?;
    loop {
        link.flush().map_err(DaemonError::system("talk to the new keeper"))?;
        while let Some((message, _)) = link.receive::<FromKeeper>().map_err(DaemonError::Keeper)? {
            if let FromKeeper::Welcome { keeper_pid, .. } = message {
                return Ok(keeper_pid);
            }
            if let FromKeeper::Refused { why } = message {
                return Err(DaemonError::Refused(why));
            }
        }
        poll::readable(link.as_fd(), Millis(10_000)).map_err(DaemonError::system("wait for the new keeper"))?;
    }
}
