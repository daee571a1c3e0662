//! How the daemon is started.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::os::cstrings::CStrings;
use crate::os::spawn::{SpawnPlan, Spawned, spawn};
use crate::os::{detach, exec, fds, fsx};

/// The daemon's end of the link.
pub const LINK_FD: i32 = 3;
/// Tells the daemon [`LINK_FD`].
pub const LINK_VAR: &str = "CLMGR_KEEPER_FD";
/// The pipe that the first daemon closes (after writing a byte) when it serves its control socket.
pub const READY_FD: i32 = 4;
/// Tells the daemon [`READY_FD`]; not set when there is none.
pub const READY_VAR: &str = "CLMGR_READY_FD";

/// A daemon that runs.
#[derive(Debug)]
pub struct DaemonProcess {
    /// Our end of its link.
    pub link: OwnedFd,
    /// The process, a child of this one. `None` (in tests) if it ends when its link does.
    pub process: Option<Spawned>,
}

/// Starts a daemon whenever there is none.
pub trait DaemonStarter {
    /// Starts one.
    ///
    /// # Errors
    /// Anything; it is written to the log and tried again later.
    fn start(&mut self) -> io::Result<DaemonProcess>;

    /// Starts one of another build.
    ///
    /// # Errors
    /// Anything; there is no other try.
    fn start_other(&mut self, exe: &Path) -> io::Result<DaemonProcess> {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!("{} cannot be started here", exe.display()),
        ))
    }
}

/// Executes `<exe> daemon`.
#[derive(Debug)]
pub struct ExecDaemon {
    exe: PathBuf,
    log: PathBuf,
    ready: Option<OwnedFd>,
    living: Option<OwnedFd>,
}

impl ExecDaemon {
    /// The program, the file its output is appended to, the ready pipe for the first one, and the link of a
    /// daemon that lives already and comes before all others.
    #[must_use]
    pub const fn new(exe: PathBuf, log: PathBuf, ready: Option<OwnedFd>, living: Option<OwnedFd>) -> Self {
        Self {
            exe,
            log,
            ready,
            living,
        }
    }
}

impl ExecDaemon {
    /// Says over the ready pipe, which ends with it, why nothing was started. Once; whoever reads it may have gone.
    pub(super) fn report(&mut self, why: &dyn std::error::Error) {
        if let Some(ready) = self.ready.take() {
            drop(writeln!(File::from(ready), "{}", chain(why)));
        }
    }

    fn execute(&mut self, exe: &Path) -> io::Result<DaemonProcess> {
        let (ours, theirs) = fds::socketpair()?;
        let null = fds::null()?;
        // A log that cannot be written must not keep the daemon from running.
        let log =
            fsx::open_append(&self.log, 0o600).map_or_else(|_| null.try_clone(), |file| Ok(OwnedFd::from(file)))?;
        let mut env = detach::inherited_env(&[LINK_VAR, READY_VAR]);
        env.push(format!("{LINK_VAR}={LINK_FD}").as_bytes());
        if self.ready.is_some() {
            env.push(format!("{READY_VAR}={READY_FD}").as_bytes());
        }
        let argv = CStrings::from_iter([exe.as_os_str().as_bytes(), b"daemon"]);
        let mut plan = SpawnPlan::new(argv, env);
        plan.fds = vec![
            (0, null.as_fd()),
            (1, log.as_fd()),
            (2, log.as_fd()),
            (LINK_FD, theirs.as_fd()),
        ];
        if let Some(ready) = &self.ready {
            plan.fds.push((READY_FD, ready.as_fd()));
        }
        let process = spawn(&plan).map_err(|error| io::Error::other(format!("{}: {error}", exe.display())))?;
        Ok(DaemonProcess {
            link: ours,
            process: Some(process),
        })
    }
}

impl DaemonStarter for ExecDaemon {
    fn start(&mut self) -> io::Result<DaemonProcess> {
        if let Some(link) = self.living.take() {
            self.ready = None;
            return Ok(DaemonProcess { link, process: None });
        }
        // Whoever replaced the file did not ask for another build to be run: `upgrade` does.
        let started = self.execute(&exec::own(&self.exe));
        match &started {
            // The pipe is the daemon's now.
            Ok(_) => drop(self.ready.take()),
            Err(error) => self.report(error),
        }
        started
    }

    fn start_other(&mut self, exe: &Path) -> io::Result<DaemonProcess> {
        self.execute(exe)
    }
}

/// An error and its causes in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
