//! What is installed now.

use std::path::{Path, PathBuf};

use crate::cli::boot::place::{Kind, Place, UNIT, detect};
use crate::cli::boot::{MARK, render};
use crate::cli::failure::Failure;
use crate::cli::world;
use crate::model::duration::Millis;

/// How a file that is there compares with what this program would write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnitState {
    /// It was not written by `clmgr startup`.
    Foreign,
    /// Another version, another program or another state folder.
    Outdated,
    /// As it would be written now.
    Current,
}

/// A unit or an init script that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installation {
    /// For whom.
    pub kind: Kind,
    /// The file.
    pub path: PathBuf,
    /// Whether it is ours, and as it should be.
    pub state: UnitState,
    /// It is started with the machine.
    pub enabled: bool,
    /// For a user's unit: it is started with the machine, not only when that user logs in.
    pub linger: Option<bool>,
    /// The state folder it is for is the one that this command uses.
    pub same_home: bool,
}

/// What `clmgr startup` has installed for this user; `None` if nothing, or if the machine has no service manager
/// that is known. Asks no other program.
///
/// # Errors
/// The file is there and cannot be read, or it cannot be told where it would be.
pub fn installation() -> Result<Option<Installation>, Failure> {
    let Some(kind) = detect() else { return Ok(None) };
    let place = Place::of(kind, None)?;
    let Some(text) = read(&place.path)? else {
        return Ok(None);
    };
    Ok(Some(Installation {
        kind,
        state: compare(&text, &render(&place, Millis::ZERO)),
        enabled: is_enabled(&place),
        linger: (kind == Kind::SystemdUser).then(lingers),
        same_home: home_lines(&text).eq(home_lines(&render(&place, Millis::ZERO))),
        path: place.path,
    }))
}

/// A unit's text; `None` if there is none.
pub(super) fn read(path: &Path) -> Result<Option<String>, Failure> {
    match world::read_text(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::failed(format!("cannot read {}: {error}", path.display()))),
    }
}

/// True for a text that `clmgr startup` has written.
pub(super) fn is_ours(text: &str) -> bool {
    text.lines().any(|line| line == MARK)
}

/// How long stopping may take depends on the apps that were known when it was written.
fn compare(found: &str, wanted: &str) -> UnitState {
    let lines = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !line.starts_with("TimeoutStopSec="));
        lines.map(ToOwned::to_owned).collect()
    };
    if !is_ours(found) {
        UnitState::Foreign
    } else if lines(found) == lines(wanted) {
        UnitState::Current
    } else {
        UnitState::Outdated
    }
}

fn home_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter(|line| line.starts_with("Environment=") || line.starts_with("export "))
}

fn is_enabled(place: &Place) -> bool {
    let link = match place.kind {
        Kind::Systemd => place.path.with_file_name("multi-user.target.wants").join(UNIT),
        Kind::SystemdUser => place.path.with_file_name("default.target.wants").join(UNIT),
        Kind::Openrc => Path::new("/etc/runlevels/default").join(place.path.file_name().unwrap_or_default()),
    };
    link.symlink_metadata().is_ok()
}

/// This user's manager is started with the machine.
pub(super) fn lingers() -> bool {
    own_name().is_some_and(|name| Path::new("/var/lib/systemd/linger").join(name).exists())
}

/// This user's name.
pub(super) fn own_name() -> Option<String> {
    let user = nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten()?;
    Some(user.name)
}

#[cfg(test)]
mod tests {
    use super::{UnitState, compare, home_lines};
    use crate::cli::boot::place::{Kind, Place};
    use crate::cli::boot::render;
    use crate::model::duration::Millis;

    #[test]
    fn tells_what_is_ours_and_what_is_old() {
        let place = |exe: &str, home: Option<&str>| Place {
            kind: Kind::Systemd,
            path: "/x".into(),
            exe: exe.into(),
            user: None,
            env: home.map(|home| ("CLMGR_HOME", home.to_owned())).into_iter().collect(),
        };
        let text = render(&place("/bin/clmgr", None), Millis(100_000));
        let wanted = render(&place("/bin/clmgr", None), Millis::ZERO);
        assert_eq!(compare(&text, &wanted), UnitState::Current);
        let moved = render(&place("/usr/bin/clmgr", None), Millis::ZERO);
        assert_eq!(compare(&text, &moved), UnitState::Outdated);
        assert_eq!(
            compare("[Service]\nExecStart=/bin/clmgr keeper\n", &wanted),
            UnitState::Foreign
        );
        let other = render(&place("/bin/clmgr", Some("/srv/x")), Millis::ZERO);
        assert!(home_lines(&text).eq(home_lines(&moved)) && !home_lines(&text).eq(home_lines(&other)));
    }
}
