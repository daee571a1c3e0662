//! `/proc`, read as bytes. A process may vanish at any moment, so everything here is an `Option`.

mod about;
mod scan;
mod stat;

pub use about::{
    Exe, age, arguments, command, cwd, descriptors, environ, exe, file_of, limit, variable, voluntary_switches,
};
pub(crate) use scan::read_pids;
pub use scan::{all_pids, children, each_child};
pub use stat::{Stat, parse_stat};

use std::sync::{Arc, OnceLock};

use rustix::fs::{Mode, OFlags, open};

use crate::model::process::ProcessId;

/// Identifies this boot; empty where `/proc` does not tell.
#[must_use]
pub fn boot_id() -> Arc<str> {
    static BOOT: OnceLock<Arc<str>> = OnceLock::new();
    Arc::clone(BOOT.get_or_init(|| {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Arc::from(text.trim())
    }))
}

/// `/proc/PID/stat` of a process that is there (dead ones that nobody has collected included).
#[must_use]
pub fn stat(pid: i32) -> Option<Stat> {
    let mut buffer = [0; 1024];
    let length = read_small(&format!("/proc/{pid}/stat"), &mut buffer)?;
    parse_stat(buffer.get(..length)?)
}

/// Who has this pid now.
#[must_use]
pub fn identity(pid: i32) -> Option<ProcessId> {
    Some(ProcessId {
        pid,
        start_ticks: stat(pid)?.start_ticks,
        boot: boot_id(),
    })
}

/// The wait status of a process that is dead and not collected. `None` for another user's, unless this is root: the
/// kernel would say 0 without knowing.
#[must_use]
pub(crate) fn zombie_status(pid: i32) -> Option<i32> {
    use std::os::unix::fs::MetadataExt;
    let own = rustix::process::geteuid();
    let owner = std::fs::metadata(format!("/proc/{pid}")).ok()?.uid();
    if !own.is_root() && owner != own.as_raw() {
        return None;
    }
    let stat = stat(pid)?;
    if stat.state == b'Z' { stat.exit_code } else { None }
}

/// True if the process began with exactly this `NAME=value` in its environment.
#[must_use]
pub fn environ_has(pid: i32, entry: &[u8]) -> bool {
    std::fs::read(format!("/proc/{pid}/environ"))
        .is_ok_and(|bytes| bytes.split(|byte| *byte == 0).any(|candidate| candidate == entry))
}

/// Reads a file that the kernel makes up, as far as it fits.
pub(crate) fn read_small(path: &str, buffer: &mut [u8]) -> Option<usize> {
    let fd = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    rustix::io::read(fd, buffer).ok()
}

#[cfg(test)]
mod tests {
    use super::{boot_id, children, environ_has, identity, stat};
    use crate::os::clock;
    use std::process::Command;

    #[test]
    fn agrees_with_the_oracle() {
        let mut child = Command::new("/bin/sleep")
            .arg("1000")
            .env("CLMGR_TEST_MARK", "one two")
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let ours = stat(pid).unwrap();
        let theirs = procfs::process::Process::new(pid).unwrap().stat().unwrap();
        assert_eq!(
            (ours.ppid, ours.pgrp, ours.session, ours.start_ticks, ours.threads),
            (theirs.ppid, theirs.pgrp, theirs.session, theirs.starttime, 1)
        );
        assert_eq!(ours.ppid, i32::try_from(std::process::id()).unwrap());
        assert!(children(ours.ppid).contains(&pid));
        // The kernel lets the parent go on a moment before the new program has its environment.
        let begin = clock::monotonic();
        while !environ_has(pid, b"CLMGR_TEST_MARK=one two") {
            assert!(clock::monotonic().since(begin).0 < 10_000);
            std::thread::yield_now();
        }
        assert!(!environ_has(pid, b"CLMGR_TEST_MARK=one"));
        assert_eq!(identity(pid).unwrap().start_ticks, theirs.starttime);
        assert_eq!(boot_id().len(), 36);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!environ_has(pid, b"CLMGR_TEST_MARK=one two"));
    }
}
