//! The folders: whose they are, who may look, and how much room there is.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::model::size::Bytes;
use crate::os::fsx::{self, Space};

use super::Scene;
use super::check::Check;

/// Less room than this is too little.
const ROOM: u64 = 64 << 20;
/// Fewer files that can be made are too few.
const FILES: u64 = 1000;

pub(super) fn check(scene: &Scene) -> Vec<Check> {
    let home = &scene.home;
    let mut folders = vec![("state folder", home.state.as_path())];
    if home.run != home.state {
        folders.push(("socket folder", home.run.as_path()));
    }
    folders.push(("log folder", home.logs.as_path()));
    folders.into_iter().map(|(what, path)| folder(what, path)).collect()
}

fn folder(what: &'static str, path: &Path) -> Check {
    let shown = path.display();
    let file = match std::fs::metadata(path) {
        Ok(file) if file.is_dir() => file,
        Ok(_) => {
            return Check::attention(what, format!("{shown} is no folder"), format!("mv {shown} {shown}.old"));
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Check::note(what, format!("{shown} is not there yet; the first start makes it"));
        }
        Err(error) => {
            return Check::attention(
                what,
                format!("{shown} cannot be looked at: {error}"),
                "use the user it belongs to",
            );
        }
    };
    let own = rustix::process::geteuid();
    if file.uid() != own.as_raw() && !own.is_root() {
        let next = format!("chown -R {} {shown}, or use that user", own.as_raw());
        return Check::attention(what, format!("{shown} belongs to user {}", file.uid()), next);
    }
    // Environments with their secrets are in the state, the control socket is behind this mode.
    let mode = file.mode() & 0o7777;
    if mode & 0o022 != 0 || (mode & 0o077 != 0 && what != "log folder") {
        let message = format!("{shown} is open to others (mode {mode:04o})");
        return Check::attention(what, message, format!("chmod 700 {shown}"));
    }
    if mode & 0o700 != 0o700 {
        let message = format!("{shown} is closed to its owner (mode {mode:04o})");
        return Check::attention(what, message, format!("chmod 700 {shown}"));
    }
    match fsx::space(path) {
        Ok(space) => room(what, path, space),
        Err(error) => Check::note(what, format!("{shown}: its room cannot be told: {error}")),
    }
}

fn room(what: &'static str, path: &Path, space: Space) -> Check {
    let shown = path.display();
    if space.read_only {
        return Check::attention(
            what,
            format!("{shown} is on a read-only file system: nothing can be changed there"),
            "see dmesg for the reason, then mount -o remount,rw",
        );
    }
    let (free, total) = (Bytes(space.free), Bytes(space.total));
    if space.free < ROOM {
        let message = format!("{shown} has {free} of {total} left");
        return Check::attention(what, message, "make room; clmgr flush empties the logs");
    }
    if let Some(files) = space.files_free.filter(|files| *files < FILES) {
        let message = format!("{shown}: only {files} more files can be made (inodes)");
        return Check::attention(what, message, "remove what is not needed; df -i shows where");
    }
    Check::ok(what, format!("{shown}, {free} of {total} left"))
}

#[cfg(test)]
mod tests {
    use super::{FILES, ROOM, folder, room};
    use crate::cli::commands::doctor::check::Verdict;
    use crate::os::fsx::Space;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    #[test]
    fn modes_and_room_are_judged() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("state");
        assert_eq!(folder("state folder", &path).verdict, Verdict::Note);
        std::fs::create_dir(&path).unwrap();
        let with = |what, mode| {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            folder(what, &path).message
        };
        assert!(with("state folder", 0o755).contains("open to others"));
        assert!(!with("log folder", 0o755).contains("open to others"));
        assert!(with("log folder", 0o777).contains("open to others"));
        assert!(with("state folder", 0o500).contains("closed to its owner"));
        let space = Space {
            free: ROOM,
            total: ROOM,
            files_free: Some(FILES),
            read_only: false,
        };
        let verdict = |space| room("state folder", Path::new("/x"), space).verdict;
        assert_eq!(verdict(space), Verdict::Ok);
        assert_eq!(
            verdict(Space {
                files_free: None,
                ..space
            }),
            Verdict::Ok
        );
        for bad in [
            Space {
                free: ROOM - 1,
                ..space
            },
            Space {
                files_free: Some(1),
                ..space
            },
            Space {
                read_only: true,
                ..space
            },
        ] {
            assert_eq!(verdict(bad), Verdict::Attention);
        }
    }
}
