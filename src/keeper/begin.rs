//! How a keeper begins: its folders, its lock, and what it is given by whoever starts it.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use super::daemon::{DaemonStarter, ExecDaemon, OOM_VAR};
use super::error::KeeperError;
use super::orphan;
use super::runtime::{ERR, OUT, Runtime, RuntimeOptions};
use super::serve::Keeper;
use super::service::Service;
use crate::model::duration::Millis;
use crate::os::home::Home;
use crate::os::{fds, former, limits, lock, poll, service};

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
    /// It was started by a service manager, or by nobody: descriptors that `LISTEN_FDS` tells of are its own. Not
    /// so for a program that replaced itself, whose environment still tells of them.
    pub takes_stored: bool,
    /// This process is `clmgr runtime`.
    pub runtime: Option<RuntimeOptions>,
}

/// Runs the keeper of a home until it is told to leave, and returns its exit code. Call it before any thread is
/// started.
///
/// # Errors
/// Start-up failed, most often because another keeper runs. After start-up there are no errors.
pub fn run(options: KeeperOptions) -> Result<u8, KeeperError> {
    let log = options.home.own_log();
    let score = began_with();
    limits::protect();
    if let Some(runtime) = options.runtime {
        let lock = prepare(&options.home, false)?;
        let (ours, theirs) = fds::pipe().map_err(KeeperError::system("make a pipe"))?;
        let (runtime, streams) = Runtime::new(runtime, options.daemon_exe.clone(), &log, ours)?;
        let mut starter = ExecDaemon::new(options.daemon_exe, log, Some(theirs), None);
        starter.set_oom_score_adj(score);
        let stored = vec![(OUT.to_owned(), streams.out), (ERR.to_owned(), streams.err)];
        let mut keeper = Keeper::new(&mut starter, score, Service::default(), stored, Some(runtime))?;
        keeper.lock = Some(lock);
        return Ok(keeper.serve());
    }
    // In place of a keeper that died, whatever became of its home.
    let replaces = options.daemon_link.is_some();
    let mut starter = ExecDaemon::new(options.daemon_exe, log, options.ready_fd, options.daemon_link);
    starter.set_oom_score_adj(score);
    // Before anything else opens descriptors.
    let stored = if options.takes_stored {
        service::inherited()
    } else {
        Vec::new()
    };
    let service = Service::from_environment();
    starter.tell_service(service.variable());
    let record = options.home.daemon_record();
    let result = prepare(&options.home, replaces).and_then(|lock| {
        if options.takes_stored {
            orphan::end_former(&record);
        }
        starter.keep_record(record);
        let mut keeper = Keeper::new(&mut starter, score, service, stored, None)?;
        keeper.lock = Some(lock);
        Ok(keeper.serve())
    });
    if let Err(error) = &result {
        starter.report(error);
    }
    result
}

/// The score that apps begin with: this process's own, or what the first keeper of this line began with, if this one
/// was started by a daemon that is protected already.
fn began_with() -> i32 {
    let told = std::env::var(OOM_VAR).ok().and_then(|text| text.parse().ok());
    told.unwrap_or_else(limits::oom_score_adj)
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
            result => {
                let lock = result?;
                // Without it only those who look at the usual place find us.
                drop(lock.record(&home.socket()));
                return Ok(lock);
            }
        }
        poll::pause(LOCK_PAUSE);
    }
}

/// The same with daemons of the caller's making, without a home.
///
/// # Errors
/// Start-up failed.
pub fn run_with(starter: &mut dyn DaemonStarter) -> Result<(), KeeperError> {
    Keeper::new(starter, limits::oom_score_adj(), Service::default(), Vec::new(), None)?.serve();
    Ok(())
}
