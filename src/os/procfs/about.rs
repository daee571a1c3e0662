//! What a process is and was started with, for people. Needs to be its owner, or root.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// The program a process executes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exe {
    /// Its path, or where it was.
    pub path: PathBuf,
    /// Its file has no name any more: it was replaced or removed.
    pub deleted: bool,
    /// Device and inode.
    pub file: Option<(u64, u64)>,
}

/// The program that a process executes.
#[must_use]
pub fn exe(pid: i32) -> Option<Exe> {
    let link = format!("/proc/{pid}/exe");
    let target = std::fs::read_link(&link).ok()?;
    let bytes = target.as_os_str().as_bytes();
    let bare = bytes.strip_suffix(b" (deleted)");
    Some(Exe {
        deleted: bare.is_some(),
        path: OsString::from_vec(bare.unwrap_or(bytes).to_vec()).into(),
        // Through the link it is the file itself that is seen, whatever its name leads to now.
        file: std::fs::metadata(&link).ok().map(|file| (file.dev(), file.ino())),
    })
}

/// How long ago a process began, in seconds.
#[must_use]
pub fn age(stat: &super::Stat) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/uptime").ok()?;
    let up: u64 = text.split('.').next()?.parse().ok()?;
    Some(up.saturating_sub(stat.start_ticks / rustix::param::clock_ticks_per_second().max(1)))
}

/// How often its first thread has given up the CPU of its own accord: for anything it waited for.
#[must_use]
pub fn voluntary_switches(pid: i32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
    line.trim().parse().ok()
}

/// Its command line, lossy; empty for a zombie or a kernel thread.
#[must_use]
pub fn command(pid: i32) -> Vec<String> {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = bytes.split(|byte| *byte == 0).filter(|word| !word.is_empty());
    words.map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

/// Its arguments, byte by byte; none for a process that is gone or dead.
#[must_use]
pub fn arguments(pid: i32) -> Option<Vec<OsString>> {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words = bytes.strip_suffix(b"\0")?.split(|byte| *byte == 0);
    Some(words.map(|word| OsString::from_vec(word.to_vec())).collect())
}

/// Its working folder.
#[must_use]
pub fn cwd(pid: i32) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/cwd")).ok()
}

/// The environment that it began with, `NAME=value` each followed by NUL.
#[must_use]
pub fn environ(pid: i32) -> Option<Vec<u8>> {
    std::fs::read(format!("/proc/{pid}/environ")).ok()
}

/// The numbers of a process's open descriptors, as far as this user may look.
#[must_use]
pub fn descriptors(pid: i32) -> Vec<i32> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten();
    let mut numbers: Vec<i32> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    numbers.sort_unstable();
    numbers
}

/// Device and inode number of what a process has open under a number.
#[must_use]
pub fn file_of(pid: i32, number: i32) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let file = std::fs::metadata(format!("/proc/{pid}/fd/{number}")).ok()?;
    Some((file.dev(), file.ino()))
}

/// One variable of an environment as [`environ`] returns it.
#[must_use]
pub fn variable(environ: &[u8], name: &str) -> Option<OsString> {
    let mut entries = environ.split(|byte| *byte == 0);
    entries.find_map(|entry| {
        let value = entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        Some(OsString::from_vec(value.to_vec()))
    })
}

/// A resource limit of a process by its name in `/proc/PID/limits`: soft and hard; `u64::MAX` is unlimited.
#[must_use]
pub fn limit(pid: i32, name: &str) -> Option<(u64, u64)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let mut fields = line.split_ascii_whitespace().map(|field| match field {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    });
    Some((fields.next()??, fields.next()??))
}

#[cfg(test)]
mod tests {
    use super::{age, arguments, command, cwd, environ, exe, limit, variable};

    #[test]
    fn tells_of_this_process() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let ours = exe(pid).unwrap();
        assert_eq!((ours.path, ours.deleted), (std::env::current_exe().unwrap(), false));
        assert!(ours.file.is_some());
        assert_eq!(command(pid).len(), std::env::args().count());
        assert!(environ(pid).is_some());
        assert_eq!(arguments(pid).unwrap(), std::env::args_os().collect::<Vec<_>>());
        assert_eq!(cwd(pid).unwrap(), std::env::current_dir().unwrap());
        assert!(age(&crate::os::procfs::stat(pid).unwrap()).unwrap() < 86_400);
        assert_eq!(
            limit(pid, "Max open files").unwrap().0,
            crate::os::limits::nofile().unwrap_or(u64::MAX)
        );
        assert_eq!(limit(pid, "Max dreams"), None);
        assert_eq!(variable(b"AB=1\0A=2=3\0", "A").unwrap(), "2=3");
        assert_eq!(variable(b"AB=1\0", "B"), None);
        assert!(exe(0).is_none() && environ(-1).is_none());
    }
}
