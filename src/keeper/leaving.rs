//! The ways to the end: asked by a signal, forced, of a runtime, and without the apps.

use super::protocol::FromKeeper;
use super::runtime::{Ended, Runtime};
use super::serve::{Daemon, GRACE, Keeper, RETELL, note};
use crate::model::duration::Millis;
use crate::model::exit::Exit;
use crate::os::pidfd::{self, Scope};
use crate::os::spawn::Spawned;
use crate::os::{clock, poll};

/// How long a service manager that takes no messages is worth waiting for at the end.
const GOODBYE: Millis = Millis(2_000);

impl Keeper<'_> {
    /// Of a runtime: the one found here, else the daemon's.
    pub(super) fn exit_code(&self) -> u8 {
        let own = self.runtime.as_ref().and_then(|runtime| runtime.code);
        own.or(self.state.outcome).unwrap_or(0)
    }

    /// What the service manager was not told yet: a little while is given to it.
    pub(super) fn say_goodbye(&mut self) {
        let end = clock::monotonic().after(GOODBYE);
        while !self.state.service.flush() && clock::monotonic() < end {
            poll::pause(RETELL);
        }
    }

    pub(super) fn leave(&mut self) {
        self.leaving = true;
        self.leave_at = None;
        self.flush();
        self.close_link();
        self.start_at = None;
        match &self.daemon {
            Some(Daemon { process: Some(_), .. }) => self.kill_at = Some(clock::monotonic().after(GRACE)),
            Some(Daemon { process: None, .. }) | None => self.daemon = None,
        }
        if self.runtime.as_ref().is_some_and(Runtime::has_helper) {
            self.kill_at = Some(clock::monotonic().after(GRACE));
        }
    }

    /// Somebody asks for the end.
    pub(super) fn terminate(&mut self) {
        let force = self
            .runtime
            .as_mut()
            .is_some_and(|runtime| runtime.asked(clock::monotonic()));
        if force {
            return self.force();
        }
        self.announce_end();
    }

    pub(super) fn announce_end(&mut self) {
        if !self.state.terminating {
            self.state.terminating = true;
            let message = self.state.welcomed.then_some(FromKeeper::Terminate);
            self.announce(message);
        }
    }

    /// Kills everything at once: somebody has lost patience.
    pub(super) fn force(&mut self) {
        note("killing everything, as asked");
        for fd in self.state.children.living_pidfds() {
            drop(pidfd::signal(fd, libc::SIGKILL, Scope::Group));
        }
        if let Some(Spawned { pidfd, .. }) = self.daemon.as_ref().and_then(|daemon| daemon.process.as_ref()) {
            drop(pidfd::signal(pidfd, libc::SIGKILL, Scope::Process));
        }
        if let Some(runtime) = &self.runtime {
            runtime.kill_helper();
        }
        self.leave();
    }

    pub(super) fn helper_ended(&mut self, pid: i32, exit: &Exit) {
        let terminating = self.state.terminating;
        let Some(runtime) = &mut self.runtime else { return };
        match runtime.ended(pid, exit, clock::monotonic(), terminating) {
            Ended::Unknown | Ended::Nothing => {}
            Ended::Applied => {
                self.state.applied = true;
                let message = self.state.welcomed.then_some(FromKeeper::Applied);
                self.announce(message);
            }
            Ended::Failed => self.announce_end(),
        }
    }

    pub(super) fn hang_up(&mut self) {
        let Some(runtime) = &mut self.runtime else { return };
        if runtime.terminal_gone() {
            self.terminate();
        } else if !self.state.terminating {
            runtime.reload();
        }
    }

    /// The logs are the daemon's. One that is just starting opens them anew anyway.
    pub(super) fn reopen(&mut self) {
        let can_be_asked = self.state.welcomed && self.state.spoken >= 4;
        self.announce(can_be_asked.then_some(FromKeeper::Reopen));
    }

    /// Leaves without the apps, as soon as the daemon has written what is left. One that cannot be asked is killed,
    /// which it survives like any other death.
    pub(super) fn detach(&mut self) {
        note("leaving without the apps");
        let can_be_asked = self.state.welcomed && self.state.spoken >= 2;
        self.announce(can_be_asked.then_some(FromKeeper::Detach));
        let now = clock::monotonic();
        self.leave_at = Some(if can_be_asked { now.after(GRACE) } else { now });
    }
}
