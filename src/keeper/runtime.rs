//! What a keeper does besides when it is the process that `clmgr runtime` became: PID 1 of a container, or a
//! foreground program.
//!
//! ```text
//!  begin  ─► daemon ─► helper "start" ─► code 0 ─► Applied to the daemon (and to every later one)
//!                           ├─ 5, or killed ─► again, at most 20 times: the daemon was away
//!                           └─ another code ─► that is the end, with this code
//!  SIGHUP ─► helper "reload", after the one that runs; whatever it says, nothing ends
//!  SIGTERM, SIGINT, SIGQUIT ─► Terminate; the third within 5 s kills everything, code 137
//! ```
//!
//! Helpers run this program again with the command line of the runtime: what users wrote is read by them, not here.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::event::PollFlags;

use super::error::KeeperError;
use crate::model::duration::Millis;
use crate::model::exit::{Exit, ExitStatus};
use crate::model::runtime::{RELOAD, START, STEP_FD, STEP_VAR};
use crate::model::time::Moment;
use crate::os::cstrings::CStrings;
use crate::os::pidfd::{self, Scope};
use crate::os::spawn::{SpawnPlan, Spawned, spawn};
use crate::os::{detach, fds, fsx, poll};

/// Under these names the daemon finds the standard streams.
pub const OUT: &str = "runtime/out";
/// See [`OUT`].
pub const ERR: &str = "runtime/err";

/// The exit code after a forced end, as a shell has it for SIGKILL.
const FORCED: u8 = 137;
/// A helper's exit code for a daemon that did not answer.
const AWAY: i32 = 5;
const TRIES: u32 = 20;
const PAUSE: Millis = Millis(500);
/// Three signals within this time force the end.
const IMPATIENCE: Millis = Millis(5_000);

/// How to be a runtime.
#[derive(Clone, Debug)]
pub struct RuntimeOptions {
    /// The command line, without the program.
    pub args: Vec<OsString>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Start,
    Reload,
}

/// What a helper's end means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// It was none of ours.
    Unknown,
    /// Nothing is to be done.
    Nothing,
    /// Everything was started.
    Applied,
    /// Nothing was started: stop, and leave with [`Runtime::code`].
    Failed,
}

/// The state of it.
#[derive(Debug)]
pub(super) struct Runtime {
    exe: PathBuf,
    args: Vec<OsString>,
    err: OwnedFd,
    /// A standard stream that is a terminal.
    terminal: Option<OwnedFd>,
    /// The reading end of the first daemon's ready pipe.
    ready: Option<OwnedFd>,
    helper: Option<(Step, Spawned)>,
    next: Option<Step>,
    next_at: Moment,
    tries: u32,
    asked: Vec<Moment>,
    /// What to exit with, if that is known here.
    pub(super) code: Option<u8>,
}

/// The standard streams, for the daemon.
pub(super) struct Streams {
    pub(super) out: OwnedFd,
    pub(super) err: OwnedFd,
}

impl Runtime {
    /// Takes the standard streams away from this process, whose own words go to its log from now on.
    pub(super) fn new(
        options: RuntimeOptions,
        exe: PathBuf,
        log: &Path,
        ready: OwnedFd,
    ) -> Result<(Self, Streams), KeeperError> {
        let streams = take_streams(log).map_err(KeeperError::system("take over the standard streams"))?;
        let terminal = [&streams.out, &streams.err]
            .into_iter()
            .find(|fd| rustix::termios::isatty(fd))
            .and_then(|fd| fd.try_clone().ok());
        let err = streams
            .err
            .try_clone()
            .map_err(KeeperError::system("keep standard error"))?;
        let runtime = Self {
            exe,
            args: options.args,
            err: fds::lift(err, 64),
            terminal,
            ready: Some(ready),
            helper: None,
            next: Some(Step::Start),
            next_at: Moment(0),
            tries: 0,
            asked: Vec::new(),
            code: None,
        };
        Ok((runtime, streams))
    }

    /// When a helper is to be started.
    pub(super) fn due(&self) -> Option<Moment> {
        (self.helper.is_none() && self.next.is_some()).then_some(self.next_at)
    }

    /// Starts a helper if one is due.
    pub(super) fn tick(&mut self, now: Moment) -> io::Result<()> {
        if self.due().is_none_or(|at| at > now) {
            return Ok(());
        }
        let Some(step) = self.next.take() else { return Ok(()) };
        match self.start(step) {
            Ok(helper) => {
                self.helper = Some((step, helper));
                Ok(())
            }
            Err(error) => {
                self.next = Some(step);
                self.next_at = now.after(PAUSE);
                Err(error)
            }
        }
    }

    fn start(&mut self, step: Step) -> io::Result<Spawned> {
        let mut argv = CStrings::from_iter([self.exe.as_os_str().as_bytes()]);
        for arg in &self.args {
            argv.push(arg.as_bytes());
        }
        let mut env = detach::inherited_env(&[STEP_VAR]);
        let word = match step {
            Step::Start => START,
            Step::Reload => RELOAD,
        };
        env.push_parts(&[STEP_VAR.as_bytes(), b"=", word.as_bytes()]);
        let null = fds::null()?;
        let mut plan = SpawnPlan::new(argv, env);
        plan.fds = vec![(0, null.as_fd()), (1, self.err.as_fd()), (2, self.err.as_fd())];
        if let Some(ready) = &self.ready {
            plan.fds.push((STEP_FD, ready.as_fd()));
        }
        let spawned = spawn(&plan).map_err(|error| io::Error::other(format!("{}: {error}", self.exe.display())))?;
        self.ready = None;
        Ok(spawned)
    }

    /// A child has ended that is neither daemon nor app. `terminating`: somebody has asked for the end before.
    pub(super) fn ended(&mut self, pid: i32, exit: &Exit, now: Moment, terminating: bool) -> Ended {
        let Some((step, _)) = self.helper.take_if(|(_, helper)| helper.pid == pid) else {
            return Ended::Unknown;
        };
        if step == Step::Reload || terminating {
            return Ended::Nothing;
        }
        match exit.status {
            ExitStatus::Code(0) => Ended::Applied,
            ExitStatus::Code(AWAY) | ExitStatus::Signal(_) | ExitStatus::Unknown if self.tries < TRIES => {
                self.tries += 1;
                self.next = Some(Step::Start);
                self.next_at = now.after(PAUSE);
                Ended::Nothing
            }
            ExitStatus::Code(code) => {
                self.code = Some(u8::try_from(code).unwrap_or(1));
                Ended::Failed
            }
            ExitStatus::Signal(_) | ExitStatus::Unknown => {
                self.code = Some(1);
                Ended::Failed
            }
        }
    }

    /// SIGHUP: reads the files again, after what is being done now.
    pub(super) fn reload(&mut self) {
        if self.next.is_none() {
            self.next = Some(Step::Reload);
            self.next_at = Moment(0);
        }
    }

    /// The terminal that this ran in was closed: SIGHUP means the end then.
    pub(super) fn terminal_gone(&self) -> bool {
        let hung_up = |fd: &OwnedFd| {
            poll::events(fd, PollFlags::empty(), Millis::ZERO).is_ok_and(|events| events.contains(PollFlags::HUP))
        };
        self.terminal.as_ref().is_some_and(hung_up)
    }

    /// Somebody asks for the end; true if that was often enough to force it.
    pub(super) fn asked(&mut self, now: Moment) -> bool {
        self.asked.retain(|at| now.since(*at) <= IMPATIENCE);
        self.asked.push(now);
        // A helper that has not begun is not needed any more.
        self.next = None;
        let force = self.asked.len() >= 3;
        if force {
            self.code = Some(FORCED);
        }
        force
    }

    /// A helper runs.
    pub(super) const fn has_helper(&self) -> bool {
        self.helper.is_some()
    }

    /// Ends a helper that runs too long.
    pub(super) fn kill_helper(&self) {
        if let Some((_, helper)) = &self.helper {
            // It may have ended meanwhile.
            drop(pidfd::signal(&helper.pidfd, libc::SIGKILL, Scope::Process));
        }
    }
}

fn take_streams(log: &Path) -> io::Result<Streams> {
    let copy = |fd: std::os::fd::BorrowedFd<'_>| fd.try_clone_to_owned();
    let null = || fds::null();
    // A stream that is closed is as good as one that nobody reads.
    let out = copy(io::stdout().as_fd()).or_else(|_| null())?;
    let err = copy(io::stderr().as_fd()).or_else(|_| null())?;
    let own = fsx::open_append(log, 0o600).map_or_else(|_| null(), |file| Ok(file.into()))?;
    fds::redirect(&own, 1)?;
    fds::redirect(&own, 2)?;
    Ok(Streams { out, err })
}

#[cfg(test)]
mod tests {
    use super::{Ended, Runtime, RuntimeOptions, Step};
    use crate::model::exit::{Exit, ExitStatus};
    use crate::model::time::Moment;
    use crate::os::fds;
    use crate::os::spawn::Spawned;

    fn runtime() -> Runtime {
        let RuntimeOptions { args } = RuntimeOptions {
            args: vec!["runtime".into()],
        };
        Runtime {
            exe: "/bin/true".into(),
            args,
            err: fds::null().unwrap(),
            terminal: None,
            ready: None,
            helper: None,
            next: Some(Step::Start),
            next_at: Moment(0),
            tries: 0,
            asked: Vec::new(),
            code: None,
        }
    }

    fn end(runtime: &mut Runtime, step: Step, status: ExitStatus, terminating: bool) -> Ended {
        let pidfd = fds::null().unwrap();
        runtime.next = None;
        runtime.helper = Some((step, Spawned { pid: 7, pidfd }));
        assert_eq!(
            runtime.ended(8, &Exit::bare(status), Moment(0), terminating),
            Ended::Unknown
        );
        runtime.ended(7, &Exit::bare(status), Moment(0), terminating)
    }

    #[test]
    fn a_helper_s_end_has_a_meaning() {
        let mut one = runtime();
        assert_eq!(end(&mut one, Step::Start, ExitStatus::Code(0), false), Ended::Applied);
        assert_eq!(end(&mut one, Step::Reload, ExitStatus::Code(2), false), Ended::Nothing);
        assert_eq!((one.code, one.next), (None, None));
        assert_eq!(end(&mut one, Step::Start, ExitStatus::Code(2), true), Ended::Nothing);
        assert_eq!(one.code, None);
        assert_eq!(end(&mut one, Step::Start, ExitStatus::Code(2), false), Ended::Failed);
        assert_eq!(one.code, Some(2));
    }

    #[test]
    fn a_helper_that_found_nobody_tries_again_but_not_for_ever() {
        let mut one = runtime();
        for _ in 0..super::TRIES {
            assert_eq!(end(&mut one, Step::Start, ExitStatus::Signal(9), false), Ended::Nothing);
            assert_eq!(one.next, Some(Step::Start));
            assert!(one.due().is_some());
        }
        assert_eq!(end(&mut one, Step::Start, ExitStatus::Code(5), false), Ended::Failed);
        assert_eq!(one.code, Some(5));
    }

    #[test]
    fn three_signals_in_a_row_force_the_end() {
        let second = 1_000_000_000;
        let mut one = runtime();
        assert!(!one.asked(Moment(second)));
        assert!(!one.asked(Moment(2 * second)));
        // The first is forgotten by then.
        assert!(!one.asked(Moment(7 * second)));
        assert_eq!(one.code, None);
        assert!(one.asked(Moment(7 * second)) && one.code == Some(137));
    }

    #[test]
    fn a_reload_waits_for_the_start() {
        let mut one = runtime();
        one.reload();
        assert_eq!(one.next, Some(Step::Start));
        one.next = None;
        one.reload();
        assert_eq!(one.next, Some(Step::Reload));
    }
}
