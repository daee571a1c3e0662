//! `clmgr startup`: all of it works, or everything is as before.

use std::os::unix::fs::DirBuilderExt;

use crate::cli::boot::place::{Kind, Place, UNIT};
use crate::cli::boot::{handover, installation, tools};
use crate::cli::failure::Failure;
use crate::os::fsx;
use crate::os::home::Home;

/// Writes the file, has it verified and enabled, and lets it take over what runs. True if a keeper that was started
/// by hand has left for it.
pub(crate) fn install(place: &Place, text: &str, home: &Home) -> Result<bool, Failure> {
    let old = installation::read(&place.path)?;
    if old.as_deref().is_some_and(|old| !installation::is_ours(old)) {
        return Err(Failure::usage(format!(
            "{} is there already, and clmgr has not written it",
            place.path.display()
        ))
        .hint("move it away, or compare it with: clmgr startup --print"));
    }
    if place.kind == Kind::SystemdUser {
        let_linger()?;
    }
    let enabled = write(place, text).and_then(|()| enable(place));
    if let Err(failure) = enabled {
        undo(place, old.as_deref());
        return Err(failure.hint("nothing was changed"));
    }
    match place.kind {
        Kind::Systemd | Kind::SystemdUser => start(place, home),
        Kind::Openrc => {
            tools::must("rc-service", &[&script(place), "start"])?;
            Ok(false)
        }
    }
}

/// The unit is a user's own: it is there after a boot only if its user lingers.
fn let_linger() -> Result<(), Failure> {
    if installation::lingers() {
        return Ok(());
    }
    tools::must("loginctl", &["enable-linger"])
        .map(drop)
        .map_err(|failure| {
            let name = installation::own_name().unwrap_or_default();
            Failure::forbidden(format!("{failure}")).hint(format!("root may do it all: clmgr startup --user {name}"))
        })
}

/// Has this user's manager started with the machine. For root.
pub(crate) fn enable_linger(name: &str) -> Result<(), Failure> {
    tools::must("loginctl", &["enable-linger", name]).map(drop)
}

/// Starts the manager of a user who is perhaps not logged in, and waits until it can be talked to. For root.
pub(crate) fn start_manager(uid: u32) -> Result<(), Failure> {
    tools::must("systemctl", &["start", &format!("user@{uid}.service")]).map(drop)
}

/// Takes it back; it was only of use for something that failed.
pub(crate) fn disable_linger(name: &str) {
    drop(tools::run("loginctl", &["disable-linger", name]));
}

fn write(place: &Place, text: &str) -> Result<(), Failure> {
    let path = place.path.display();
    let failed = |error: std::io::Error| {
        let text = format!("cannot write {path}: {error}");
        if error.kind() == std::io::ErrorKind::PermissionDenied {
            Failure::forbidden(text)
        } else {
            Failure::failed(text)
        }
    };
    if let Some(folder) = place.path.parent() {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(folder)
            .map_err(failed)?;
    }
    let mode = if place.kind == Kind::Openrc { 0o755 } else { 0o644 };
    fsx::write_atomic(&place.path, text.as_bytes(), mode).map_err(failed)
}

fn enable(place: &Place) -> Result<(), Failure> {
    match place.kind {
        Kind::Systemd | Kind::SystemdUser => {
            verify(place)?;
            // This has the service manager read the file, too.
            tools::systemctl(place.kind, &["enable", UNIT])?;
        }
        Kind::Openrc => {
            tools::must("rc-update", &["add", &script(place), "default"])?;
        }
    }
    Ok(())
}

/// Asks systemd what it thinks of the unit; of this one only, and only where it can be asked.
fn verify(place: &Place) -> Result<(), Failure> {
    let path = place.path.to_string_lossy();
    let mut args = vec!["verify", "--recursive-errors=no", &*path];
    if place.kind == Kind::SystemdUser {
        args.insert(0, "--user");
    }
    match tools::run("systemd-analyze", &args)? {
        Some(said) if !said.ok && !said.err.contains("unrecognized option") => Err(Failure::failed(format!(
            "systemd does not accept the unit: {}",
            said.err
        ))),
        Some(_) | None => Ok(()),
    }
}

fn start(place: &Place, home: &Home) -> Result<bool, Failure> {
    handover::into_unit(place.kind, home).map_err(|failure| {
        // Apps whose keeper has left are not to be without one.
        let _unheard = crate::cli::launch::by_hand(home);
        let scope = if place.kind == Kind::SystemdUser { " --user" } else { "" };
        Failure::failed(format!(
            "{} is enabled, but does not start: {failure}",
            place.path.display()
        ))
        .hint(format!("journalctl{scope} -u {UNIT} says why"))
        .hint("clmgr unstartup removes it")
    })
}

/// Nobody needs to hear of what goes wrong here: the first failure is told.
fn undo(place: &Place, old: Option<&str>) {
    match place.kind {
        Kind::Systemd | Kind::SystemdUser if old.is_none() => {
            drop(tools::ask_systemctl(place.kind, &["disable", UNIT]));
        }
        Kind::Openrc if old.is_none() => drop(tools::run("rc-update", &["del", &script(place), "default"])),
        Kind::Systemd | Kind::SystemdUser | Kind::Openrc => {}
    }
    match old {
        Some(old) => drop(write(place, old)),
        None => drop(fsx::remove_file(&place.path)),
    }
    if place.kind != Kind::Openrc {
        drop(tools::ask_systemctl(place.kind, &["daemon-reload"]));
    }
}

/// The name under which OpenRC knows it.
pub(super) fn script(place: &Place) -> String {
    let name = place.path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}
