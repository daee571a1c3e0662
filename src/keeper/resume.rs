//! The other side of an upgrade: this build begins where the one before has stopped, in the same process.

use std::ffi::OsStr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

use super::daemon::ExecDaemon;
use super::error::{KeeperError, block_signals};
use super::handover::Saved;
use super::launch::Launcher;
use super::link::Link;
use super::restart::Restart;
use super::serve::{Daemon, Keeper, note};
use super::service::Service;
use super::state::State;
use super::upgrade;
use crate::os::epoll::Epoll;
use crate::os::home::Home;
use crate::os::lock::Lock;
use crate::os::spawn::Spawned;
use crate::os::{clock, exec, fds};

/// What a keeper was given by the build before.
#[derive(Debug)]
pub struct ResumeOptions {
    /// Its folders.
    pub home: Home,
    /// This program.
    pub daemon_exe: PathBuf,
    /// The state.
    pub state: OwnedFd,
    /// The program of the build before.
    pub back: OwnedFd,
    /// This is the build before: the next one executed it again, for this reason.
    pub failed: Option<String>,
}

/// Goes on as the keeper that this process was until now. If that cannot be, the build before is executed again.
///
/// # Errors
/// Neither can be.
pub fn resume(options: ResumeOptions) -> Result<u8, KeeperError> {
    exec::name_process();
    let (bytes, state) = exec::read_all(options.state).map_err(KeeperError::system("read the keeper's state"))?;
    let saved = match Saved::read(&bytes).and_then(Saved::complete) {
        Ok(saved) => saved,
        Err(error) => {
            let causes = super::daemon::chain(&error);
            if options.failed.is_none() {
                note(&format!("cannot go on: {causes}; executing the build before again"));
                return Err(give_back(&state, &options.back, &causes));
            }
            return Err(KeeperError::Handover(causes));
        }
    };
    drop((state, options.back));
    let log = options.home.own_log();
    let service = Service::from_environment();
    let mut starter = ExecDaemon::new(options.daemon_exe, log, None, None);
    starter.set_oom_score_adj(saved.oom_score_adj.unwrap_or(0));
    starter.tell_service(service.variable());
    starter.keep_record(options.home.daemon_record());
    let mut keeper =
        restore(saved, service, &mut starter).map_err(KeeperError::system("take over the keeper's state"))?;
    match options.failed {
        None => keeper.upgraded(),
        Some(why) => keeper.back_out(format!("its keeper could not take over: {why}")),
    }
    // Children may have ended between the two builds.
    keeper.reap();
    keeper.flush();
    Ok(keeper.serve())
}

/// Says whether this build could go on from a state. For a child of the keeper that has it.
///
/// # Errors
/// It could not; why.
pub fn check_state(state: OwnedFd) -> Result<(), KeeperError> {
    let (bytes, _state) = exec::read_all(state).map_err(KeeperError::system("read the keeper's state"))?;
    Saved::read(&bytes).map_err(|error| KeeperError::Handover(super::daemon::chain(&error)))?;
    Ok(())
}

/// Nothing of the state was taken, so all of it is still open for the build before.
fn give_back(state: &OwnedFd, back: &OwnedFd, why: &str) -> KeeperError {
    let (state_number, back_number) = (state.as_raw_fd().to_string(), back.as_raw_fd().to_string());
    let args = [
        "keeper",
        "--resume",
        &state_number,
        "--back",
        &back_number,
        "--failed",
        why,
    ]
    .map(OsStr::new);
    fds::keep_across_exec(&[state.as_raw_fd(), back.as_raw_fd()], true);
    KeeperError::system("execute the build before")(exec::replace_by_file(back, &args))
}

fn restore(saved: Saved, service: Service, starter: &mut ExecDaemon) -> Result<Keeper<'_>, std::io::Error> {
    let signals = block_signals().map_err(std::io::Error::other)?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let epoll = Epoll::new()?;
    epoll.add(&signals, super::serve::SIGNALS)?;
    let lock = saved.lock.map(fds::inherited).transpose()?.map(Lock::from_fd);
    let link = saved
        .link
        .map(|number| fds::inherited(number).and_then(Link::new))
        .transpose()?;
    if let Some(link) = &link {
        epoll.add(link, super::serve::LINK)?;
    }
    let daemon = match &saved.daemon {
        None => None,
        Some(daemon) => Some(Daemon {
            process: match daemon.pidfd {
                Some(number) => Some(Spawned {
                    pid: daemon.pid,
                    pidfd: fds::inherited(number)?,
                }),
                None => None,
            },
            started: daemon.started,
        }),
    };
    let signs = (saved.daemon.as_ref().is_some_and(|daemon| daemon.signed), saved.proven);
    let launcher = Launcher::resumed(saved.nofile, saved.oom_score_adj)?;
    let (restart, upgrade) = (Restart::after(saved.failures), saved.upgrade.clone());
    let foreign = saved.foreign.clone();
    let state = State::resume(launcher, service, saved)?;
    let mut keeper = Keeper::begin(starter, signals, epoll, state);
    keeper.lock = lock;
    keeper.link = link;
    if daemon.as_ref().is_some_and(|daemon| daemon.process.is_some()) {
        keeper.state.service.resume(signs, clock::monotonic());
    }
    keeper.daemon = daemon;
    keeper.restart = restart;
    keeper.start_at = None;
    keeper.upgrade = upgrade.map(upgrade::restored);
    keeper.watch(&foreign);
    Ok(keeper)
}
