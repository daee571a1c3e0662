//! A daemon whose keeper has died ends by itself, unless it hangs. The next keeper makes sure: two daemons would
//! want the same state. Which process it was stands in a file beside the state.

use std::io::Write;
use std::path::Path;

use super::serve::note;
use crate::model::duration::Millis;
use crate::os::pidfd::{self, Scope};
use crate::os::{fsx, poll, procfs};

/// How long a daemon that has lost its keeper may take to end.
const GRACE: Millis = Millis(5_000);

/// Writes down who the daemon is. It is of use only until the next boot, so the disk need not have it.
pub(super) fn record(path: &Path, pid: i32) {
    let text = procfs::identity(pid).map(|who| format!("{pid} {} {}\n", who.start_ticks, who.boot));
    let written = text.map(|text| {
        let mut file = fsx::open_append(path, 0o600)?;
        file.set_len(0)?;
        file.write_all(text.as_bytes())
    });
    if let Some(Err(error)) = written {
        note(&format!("cannot write {}: {error}", path.display()));
    }
}

/// Waits for the end of the daemon of a keeper that has died, and kills it if that does not come.
pub(super) fn end_former(path: &Path) {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let mut words = text.split_whitespace();
    let (Some(pid), Some(ticks), Some(boot)) = (words.next(), words.next(), words.next()) else {
        return;
    };
    let Ok(pid) = pid.parse::<i32>() else { return };
    let Ok(fd) = pidfd::open(pid) else { return };
    // The descriptor is open: from here on the pid is that process or nobody.
    let same = procfs::identity(pid).is_some_and(|who| who.start_ticks.to_string() == ticks && *who.boot == *boot);
    if !same || poll::readable(&fd, GRACE).unwrap_or(true) {
        return;
    }
    note(&format!(
        "killing the daemon of a former keeper (process {pid}), which does not end"
    ));
    drop(pidfd::signal(&fd, libc::SIGKILL, Scope::Process));
    drop(poll::readable(&fd, GRACE));
}

#[cfg(test)]
mod tests {
    use super::{end_former, record};
    use crate::model::duration::Millis;
    use crate::os::cstrings::CStrings;
    use crate::os::spawn::{SpawnPlan, spawn};
    use crate::os::{pidfd, poll, reap};

    #[test]
    fn ends_that_very_process_and_no_other() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("daemon.pid");
        end_former(&path);
        let start = || {
            let argv = CStrings::from_iter(["sleep", "1000"]);
            spawn(&SpawnPlan::new(argv, CStrings::from_iter(["PATH=/usr/bin:/bin"]))).unwrap()
        };
        let (hung, other) = (start(), start());
        record(&path, other.pid);
        // As if the pid had been given to somebody else.
        let text = std::fs::read_to_string(&path).unwrap();
        let mut words: Vec<&str> = text.split_whitespace().collect();
        words[1] = "1";
        crate::os::fsx::write_atomic(&path, words.join(" ").as_bytes(), 0o600).unwrap();
        end_former(&path);
        assert!(pidfd::alive(&other.pidfd));
        record(&path, hung.pid);
        end_former(&path);
        assert!(poll::readable(&hung.pidfd, Millis::ZERO).unwrap());
        assert!(pidfd::alive(&other.pidfd));
        pidfd::signal(&other.pidfd, libc::SIGKILL, pidfd::Scope::Process).unwrap();
        for child in [hung, other] {
            poll::readable(&child.pidfd, Millis(10_000)).unwrap();
            drop(reap::one(child.pid));
        }
    }
}
