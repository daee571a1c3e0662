//! Processes found by what they carry in their environment: those that nobody has a record of.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;

use memchr::memmem::Finder;

use crate::model::duration::Millis;
use crate::os::{pidfd, poll, procfs};

/// A living process whose environment has an entry that was looked for.
#[derive(Debug)]
pub struct Marked {
    /// Its pid.
    pub pid: i32,
    /// The process.
    pub fd: OwnedFd,
    /// When it began, in clock ticks since boot.
    pub start_ticks: u64,
    /// It leads its session.
    pub leads: bool,
    /// Its environment as it began, entries separated by NUL.
    environ: Vec<u8>,
}

impl Marked {
    /// What a variable was when the program began. NULs at the end are no part of it.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        let entries = self.environ.split(|byte| *byte == 0);
        let value = entries
            .filter_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
            .next()?;
        std::str::from_utf8(value).ok()
    }
}

/// How often a process that is just being executed is looked at again, and after which pause.
const NEWBORN_TRIES: u32 = 20;
const NEWBORN_PAUSE: Millis = Millis(5);

/// Every living process in this pid namespace, but this one, with an environment entry that begins with `prefix`
/// (`NAME=…`). One pass over `/proc`; what began after `since` (in clock ticks since boot) and has no environment
/// yet is waited for, 100 ms at most. Programs that clear or overwrite their environment are not found.
#[must_use]
pub fn search(prefix: &[u8], since: u64) -> Vec<Marked> {
    let mut search = Search {
        finder: Finder::new(prefix),
        namespace: namespace("self"),
        since,
        buffer: Vec::new(),
        found: Vec::new(),
    };
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let mut left: Vec<i32> = procfs::all_pids().into_iter().filter(|pid| *pid != own).collect();
    for _ in 0..NEWBORN_TRIES {
        left.retain(|pid| search.look(*pid) == Look::Newborn);
        if left.is_empty() {
            break;
        }
        poll::pause(NEWBORN_PAUSE);
    }
    search.found
}

#[derive(PartialEq, Eq)]
enum Look {
    Done,
    /// Between `exec` and its first instruction, where it has no environment.
    Newborn,
}

struct Search<'a> {
    finder: Finder<'a>,
    namespace: Option<u64>,
    since: u64,
    buffer: Vec<u8>,
    found: Vec<Marked>,
}

impl Search<'_> {
    fn look(&mut self, pid: i32) -> Look {
        // A cheap look first: almost every process is somebody else's.
        if !read_environ(pid, &mut self.buffer) {
            return Look::Done;
        }
        if self.buffer.is_empty() {
            let stat = procfs::stat(pid).filter(|stat| !stat.is_dead());
            let newborn = stat.is_some_and(|stat| stat.session == pid && stat.start_ticks >= self.since);
            return if newborn { Look::Newborn } else { Look::Done };
        }
        if self.has_entry() {
            let marked = self.verified(pid);
            self.found.extend(marked);
        }
        Look::Done
    }

    fn has_entry(&self) -> bool {
        let begins = |at: usize| at == 0 || self.buffer.get(at - 1) == Some(&0);
        self.finder.find_iter(&self.buffer).any(begins)
    }

    /// Opens the process and looks again: the pid may have been used anew in between. Alive after the look means
    /// that the look was at this very process. A container's process may carry the mark of a home of the same
    /// path, and is not ours.
    fn verified(&mut self, pid: i32) -> Option<Marked> {
        let fd = pidfd::open(pid).ok()?;
        let stat = procfs::stat(pid).filter(|stat| !stat.is_dead())?;
        let same = read_environ(pid, &mut self.buffer)
            && self.has_entry()
            && namespace(&pid.to_string()) == self.namespace
            && pidfd::alive(&fd);
        let environ = std::mem::take(&mut self.buffer);
        same.then_some(Marked {
            pid,
            fd,
            start_ticks: stat.start_ticks,
            leads: stat.session == pid,
            environ,
        })
    }
}

/// False where it may not be read, or is gone.
fn read_environ(pid: i32, buffer: &mut Vec<u8>) -> bool {
    buffer.clear();
    File::open(format!("/proc/{pid}/environ")).is_ok_and(|mut file| file.read_to_end(buffer).is_ok())
}

/// Which pid namespace a process lives in.
fn namespace(pid: &str) -> Option<u64> {
    std::fs::metadata(format!("/proc/{pid}/ns/pid"))
        .ok()
        .map(|data| data.ino())
}

#[cfg(test)]
mod tests {
    use super::search;
    use crate::model::duration::Millis;
    use crate::os::cstrings::CStrings;
    use crate::os::spawn::{SpawnPlan, spawn};
    use crate::os::{pidfd, poll, reap};

    #[test]
    fn finds_leaders_and_their_children_at_once() {
        let mark = format!("CLMGR_TEST=t{}.", std::process::id());
        let argv = CStrings::from_iter(["sh", "-c", "sleep 1000 & wait"]);
        let env = CStrings::from_iter([
            "PATH=/usr/bin:/bin".to_owned(),
            format!("{mark}7"),
            format!("NOT{mark}8"),
        ]);
        let mut plan = SpawnPlan::new(argv, env);
        plan.pid_vars = vec![b"LEADER".to_vec()];
        let child = spawn(&plan).unwrap();
        // No wait: a process that is just being executed is waited for.
        let found = search(mark.as_bytes(), 0);
        let leader = found.iter().find(|one| one.pid == child.pid).unwrap();
        assert!(leader.leads);
        assert_eq!(leader.value("LEADER"), Some(child.pid.to_string().as_str()));
        assert_eq!(
            leader.value("CLMGR_TEST"),
            mark.strip_prefix("CLMGR_TEST=")
                .map(|mark| format!("{mark}7"))
                .as_deref()
        );
        assert_eq!(leader.value("NONE"), None);
        let mut found = found;
        while found.len() < 2 {
            found = search(mark.as_bytes(), 0);
        }
        assert!(found.iter().all(|one| one.pid == child.pid || !one.leads));
        assert!(search(b"CLMGR_TEST=nobody.", 0).is_empty());
        for one in found {
            pidfd::signal(&one.fd, 9, pidfd::Scope::Process).unwrap();
        }
        assert!(poll::readable(&child.pidfd, Millis::from_secs(10)).unwrap());
        assert!(reap::one(child.pid).unwrap().is_some());
        assert!(search(mark.as_bytes(), 0).iter().all(|one| one.pid != child.pid));
    }
}
