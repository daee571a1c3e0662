//! A home that was removed under its keeper, and perhaps made again: the lock of the new one is free, but the old
//! keeper and its apps live. And how they notice.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::os::procfs;

/// The living process with the word `role` as its first argument that holds a removed file of this name open: one pass over `/proc`.
#[must_use]
pub fn holder(path: &Path, role: &[u8]) -> Option<i32> {
    let mut removed = path.as_os_str().as_bytes().to_vec();
    removed.extend_from_slice(b" (deleted)");
    let holds = |pid: i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if line.split(|byte| *byte == 0).nth(1) != Some(role) {
            return false;
        }
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten();
        files
            .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
            .any(|target| target.as_os_str().as_bytes() == removed)
    };
    procfs::all_pids().into_iter().find(|pid| holds(*pid))
}

/// Tells when a file is no longer what its path leads to.
#[derive(Debug)]
pub struct Watch {
    inode: u64,
    events: OwnedFd,
}

impl Watch {
    /// Begins to watch.
    ///
    /// # Errors
    /// It is not there, or the limit of watches is reached.
    pub fn begin(path: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        // Somebody holds it open, so its removal only shows as a change of its number of names.
        let flags = AddWatchFlags::IN_ATTRIB | AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF;
        inotify.add_watch(path, flags)?;
        Ok(Self {
            inode: std::fs::metadata(path)?.ino(),
            events: inotify.as_fd().try_clone_to_owned()?,
        })
    }

    /// Becomes readable when it is time to ask [`Watch::is_former`].
    ///
    /// # Errors
    /// No descriptors left.
    pub fn events(&self) -> io::Result<OwnedFd> {
        self.events.try_clone()
    }

    /// Something else is there now, or nothing. Takes the events that have arrived.
    #[must_use]
    pub fn is_former(&self, path: &Path) -> bool {
        let mut buffer = [0_u8; 4096];
        while rustix::io::read(&self.events, &mut buffer).is_ok_and(|count| count > 0) {}
        std::fs::metadata(path).map_or(true, |now| now.ino() != self.inode)
    }
}

#[cfg(test)]
mod tests {
    use super::{Watch, holder};
    use crate::model::duration::Millis;
    use crate::os::{clock, fsx, poll};
    use std::process::Command;

    #[test]
    fn a_removed_file_tells_and_is_found_with_its_holder() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("lock");
        let file = fsx::open_append(&path, 0o600).unwrap();
        let mut child = Command::new("sh")
            .args(["-c", "read nothing", "role"])
            .stdin(std::process::Stdio::piped())
            .stdout(file.try_clone().unwrap())
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let watch = Watch::begin(&path).unwrap();
        assert!(!watch.is_former(&path));
        assert_eq!(holder(&path, b"-c"), None);
        fsx::remove_file(&path).unwrap();
        assert!(poll::readable(watch.events().unwrap(), Millis::from_secs(10)).unwrap());
        assert!(watch.is_former(&path));
        // The command line shows a moment after the program has replaced the one that forked.
        let end = clock::monotonic().after(Millis::from_secs(10));
        while holder(&path, b"-c") != Some(pid) {
            assert!(clock::monotonic() < end, "never found");
        }
        assert_eq!(holder(&path, b"role"), None);
        assert_eq!(holder(&temp.path().join("loc"), b"-c"), None);
        fsx::write_atomic(&path, b"", 0o600).unwrap();
        assert!(watch.is_former(&path));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(holder(&path, b"-c"), None);
        drop(file);
    }
}
