//! How the daemon is started.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::orphan;
use super::service::SERVICE_VAR;
use crate::os::cstrings::CStrings;
use crate::os::spawn::{SpawnPlan, Spawned, spawn};
use crate::os::{detach, exec, fds, fsx, service};

/// The daemon's end of the link.
pub const LINK_FD: i32 = 3;
/// Tells the daemon [`LINK_FD`].
pub const LINK_VAR: &str = "CLMGR_KEEPER_FD";
/// The pipe that the first daemon closes (after writing a byte) when it serves its control socket.
pub const READY_FD: i32 = 4;
/// Tells the daemon [`READY_FD`]; not set when there is none.
pub const READY_VAR: &str = "CLMGR_READY_FD";

/// Tells the daemon, and by it a keeper that it has to start, the `oom_score_adj` that apps begin with.
pub(super) const OOM_VAR: &str = "CLMGR_OOM_SCORE_ADJ";

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
    oom_score_adj: i32,
    service: Option<String>,
    record: Option<PathBuf>,
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
            oom_score_adj: 0,
            service: None,
            record: None,
        }
    }

    /// Who the daemon is, is written here.
    pub(super) fn keep_record(&mut self, path: PathBuf) {
        self.record = Some(path);
    }

    /// What apps begin with, for a keeper that the daemon may have to start.
    pub const fn set_oom_score_adj(&mut self, score: i32) {
        self.oom_score_adj = score;
    }

    /// Daemons are told this as [`SERVICE_VAR`].
    pub(super) fn tell_service(&mut self, value: Option<String>) {
        self.service = value;
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
        // The service manager speaks to the keeper alone.
        let mut without = vec![LINK_VAR, READY_VAR, OOM_VAR, SERVICE_VAR];
        without.extend(service::VARIABLES);
        let mut env = detach::inherited_env(&without);
        if let Some(value) = &self.service {
            env.push_parts(&[SERVICE_VAR.as_bytes(), b"=", value.as_bytes()]);
        }
        env.push(format!("{LINK_VAR}={LINK_FD}").as_bytes());
        env.push(format!("{OOM_VAR}={}", self.oom_score_adj).as_bytes());
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
        if let Some(path) = &self.record {
            orphan::record(path, process.pid);
        }
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
