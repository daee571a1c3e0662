//! The note beside the lock that a manager is at work in this home. An orderly end removes it, so one of this boot
//! that is found without a keeper means that the manager was killed, and that its apps may live.

use std::io;
use std::path::Path;

use crate::os::{fsx, procfs};

/// Who is at work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// The keeper that has everything.
    pub keeper_pid: i32,
    /// When it began, in clock ticks since boot.
    pub keeper_born: u64,
}

/// Says so. Does not wait for the disk: a note that a power cut takes is of another boot anyway.
///
/// # Errors
/// The file cannot be written.
pub fn write(path: &Path, running: &Running) -> io::Result<()> {
    let text = format!("{} {} {}\n", procfs::boot_id(), running.keeper_pid, running.keeper_born);
    fsx::replace(path, text.as_bytes(), 0o600)
}

/// What was said last, if that was since this machine was started.
#[must_use]
pub fn read(path: &Path) -> Option<Running> {
    let text = std::fs::read_to_string(path).ok()?;
    let mut words = text.split_ascii_whitespace();
    let same_boot = words.next()? == &*procfs::boot_id();
    let running = Running {
        keeper_pid: words.next()?.parse().ok()?,
        keeper_born: words.next()?.parse().ok()?,
    };
    same_boot.then_some(running)
}

/// An orderly end.
///
/// # Errors
/// The file is there and cannot be removed.
pub fn remove(path: &Path) -> io::Result<()> {
    fsx::remove_file(path)
}

#[cfg(test)]
mod tests {
    use super::{Running, read, remove, write};

    #[test]
    fn counts_for_this_boot_only() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("running");
        assert_eq!(read(&path), None);
        let running = Running {
            keeper_pid: 7,
            keeper_born: 4711,
        };
        write(&path, &running).unwrap();
        write(&path, &running).unwrap();
        assert_eq!(read(&path), Some(running));
        for rubbish in ["", "x", "00000000-0000-0000-0000-000000000000 7 4711\n"] {
            crate::os::fsx::write_atomic(&path, rubbish.as_bytes(), 0o600).unwrap();
            assert_eq!(read(&path), None, "{rubbish:?}");
        }
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
    }
}
