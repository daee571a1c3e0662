//! `clmgr unstartup`: what `startup` installed goes, and nothing else; the apps live on.

use crate::cli::boot::install::script;
use crate::cli::boot::place::{Kind, Place, UNIT};
use crate::cli::boot::{handover, installation, tools};
use crate::cli::failure::Failure;
use crate::cli::launch;
use crate::os::fsx;
use crate::os::home::Home;

/// Removes it; false if there was nothing.
pub(crate) fn remove(place: &Place, home: &Home) -> Result<bool, Failure> {
    let path = place.path.display();
    let Some(text) = installation::read(&place.path)? else {
        return Ok(false);
    };
    if !installation::is_ours(&text) {
        return Err(Failure::usage(format!(
            "{path} was not written by clmgr startup; it stays as it is"
        )));
    }
    let keeper = match place.kind {
        Kind::Systemd | Kind::SystemdUser => {
            tools::systemctl(place.kind, &["disable", UNIT])?;
            handover::main_pid(place.kind)
        }
        Kind::Openrc => {
            tools::must("rc-update", &["del", &script(place), "default"])?;
            None
        }
    };
    // The unit ends with its keeper. The file goes only when the service manager has seen that: a unit without one
    // would be stopped as any other is, with a signal to every process.
    if let Some(keeper) = keeper {
        handover::detach(keeper)?;
        tools::systemctl(place.kind, &["stop", UNIT])?;
    }
    fsx::remove_file(&place.path).map_err(|error| Failure::failed(format!("cannot remove {path}: {error}")))?;
    if place.kind != Kind::Openrc {
        tools::systemctl(place.kind, &["daemon-reload"])?;
    }
    if keeper.is_some() {
        launch::by_hand(home)?;
    }
    Ok(true)
}
