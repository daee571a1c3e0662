//! Moving running apps from one keeper to the next: into a unit, and out of it again.

use std::io;

use crate::cli::boot::installation::{self, UnitState};
use crate::cli::boot::place::{Kind, UNIT};
use crate::cli::boot::tools;
use crate::cli::failure::Failure;
use crate::model::duration::Millis;
use crate::os::home::Home;
use crate::os::pidfd::{self, Scope};
use crate::os::{lock, poll};

/// How long a keeper may take to leave.
const PATIENCE: Millis = Millis(20_000);

/// Asks a keeper to leave without its apps, and waits until it has gone.
pub(super) fn detach(keeper: i32) -> Result<(), Failure> {
    let failed =
        |error: io::Error| Failure::failed(format!("cannot ask the keeper (process {keeper}) to leave: {error}"));
    let fd = match pidfd::open(keeper) {
        Ok(fd) => fd,
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    pidfd::signal(&fd, libc::SIGUSR1, Scope::Process).map_err(failed)?;
    if poll::readable(&fd, PATIENCE).map_err(failed)? {
        return Ok(());
    }
    Err(Failure::failed(format!(
        "the keeper (process {keeper}) has not left within {PATIENCE}"
    )))
}

/// The process that a unit counts as its keeper, while it runs.
pub(super) fn main_pid(kind: Kind) -> Option<i32> {
    let said = tools::ask_systemctl(kind, &["show", "--property=MainPID", "--value", UNIT])?;
    said.out.parse().ok().filter(|pid| *pid > 0)
}

/// Makes the unit's keeper the one that has this home. True if one that was started by hand has left for it.
pub(super) fn into_unit(kind: Kind, home: &Home) -> Result<bool, Failure> {
    let unit = main_pid(kind);
    let by_hand = lock::pid_of_holder(&home.lock()).filter(|pid| Some(*pid) != unit);
    if let Some(keeper) = by_hand {
        detach(keeper)?;
    }
    tools::systemctl(kind, &["start", UNIT])?;
    Ok(by_hand.is_some())
}

/// Starts the unit of this user's home, if there is one that is enabled. False if there is none, or it did not start.
///
/// A keeper started by hand while the unit is between two of its own would have the place that the unit's needs.
pub(crate) fn start_enabled() -> bool {
    let found = installation::installation().ok().flatten();
    let Some(found) = found.filter(|found| found.enabled && found.same_home && found.state != UnitState::Foreign)
    else {
        return false;
    };
    match found.kind {
        Kind::Systemd | Kind::SystemdUser => {
            tools::ask_systemctl(found.kind, &["start", UNIT]).is_some_and(|said| said.ok)
        }
        // Its script starts a keeper just as anybody else does.
        Kind::Openrc => false,
    }
}
