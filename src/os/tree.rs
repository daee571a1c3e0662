//! Which processes belong to an app: its leader's descendants, and what its leader left behind.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;

use crate::os::{pidfd, procfs};

/// A process of a tree. The descriptor refers to the very process that was found to belong to it.
#[derive(Debug)]
pub struct Member {
    /// Its pid.
    pub pid: i32,
    /// The process.
    pub fd: OwnedFd,
}

/// What to look for once a leader is dead.
pub struct LeftoverQuery<'a> {
    /// The dead leader: the id of its process group and session.
    pub leader: i32,
    /// An environment entry (`NAME=value`) that only processes of this run carry.
    pub run_marker: &'a [u8],
    /// Inode numbers of pipes that only processes of this run have as standard input, output or error: they tell an
    /// orphan that has cleared its environment and left the session.
    pub pipes: &'a [u64],
    /// The subreaper that orphans are given to.
    pub reaper: i32,
    /// Look among all processes, not only among the reaper's children: the leader lived under a reaper that has
    /// died, whose orphans went to somebody else.
    pub anywhere: bool,
    /// Pids that belong to somebody else (leaders of other apps, the daemon): neither they nor their
    /// descendants are taken.
    pub known: &'a dyn Fn(i32) -> bool,
}

impl std::fmt::Debug for LeftoverQuery<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LeftoverQuery")
            .field("leader", &self.leader)
            .finish_non_exhaustive()
    }
}

/// All descendants of a living process, parents before children, without itself. A process that is
/// forking may have more by the time this returns: kill, and ask again until nothing is left.
#[must_use]
pub fn descendants(root: i32) -> Vec<Member> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::from([root]);
    walk(root, &mut found, &mut seen, &|_| false);
    found
}

/// Everything living that belonged to a dead leader: members of its group and session wherever they
/// are, orphans that carry its marker, and the descendants of all of them. Costs one failed `kill` and one
/// look at the reaper's children when nothing is left.
#[must_use]
pub fn leftovers(query: &LeftoverQuery<'_>) -> Vec<Member> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::from([query.reaper, 1, i32::try_from(std::process::id()).unwrap_or(0)]);
    if query.leader > 1 && group_exists(query.leader) {
        for pid in procfs::all_pids() {
            take(pid, query, &mut found, &mut seen, &|stat| {
                stat.pgrp == query.leader || stat.session == query.leader
            });
        }
    }
    let orphans = if query.anywhere {
        procfs::all_pids()
    } else {
        procfs::children(query.reaper)
    };
    for pid in orphans {
        take(pid, query, &mut found, &mut seen, &|stat| {
            stat.session == query.leader
                || stat.pgrp == query.leader
                || procfs::environ_has(pid, query.run_marker)
                || has_pipe(pid, query.pipes)
        });
    }
    let roots: Vec<i32> = found.iter().map(|member| member.pid).collect();
    for pid in roots {
        walk(pid, &mut found, &mut seen, query.known);
    }
    found
}

fn take(
    pid: i32,
    query: &LeftoverQuery<'_>,
    found: &mut Vec<Member>,
    seen: &mut BTreeSet<i32>,
    belongs: &dyn Fn(&procfs::Stat) -> bool,
) {
    if seen.contains(&pid) || (query.known)(pid) {
        return;
    }
    // A cheap look first: almost every process here is somebody else's.
    if !procfs::stat(pid).is_some_and(|stat| !stat.is_dead() && belongs(&stat)) {
        return;
    }
    if let Some(member) = verified(pid, belongs) {
        seen.insert(pid);
        found.push(member);
    }
}

fn walk(root: i32, found: &mut Vec<Member>, seen: &mut BTreeSet<i32>, known: &dyn Fn(i32) -> bool) {
    let mut queue = vec![root];
    while let Some(parent) = queue.pop() {
        for pid in procfs::children(parent) {
            if known(pid) || !seen.insert(pid) {
                continue;
            }
            if let Some(member) = verified(pid, &|stat| stat.ppid == parent) {
                found.push(member);
                queue.push(pid);
            }
        }
    }
}

/// Opens a process and then makes sure that what was opened is what was meant: the pid may have been used
/// again in between. Alive after the look means that the look was at this very process.
fn verified(pid: i32, belongs: &dyn Fn(&procfs::Stat) -> bool) -> Option<Member> {
    let fd = pidfd::open(pid).ok()?;
    let stat = procfs::stat(pid)?;
    (!stat.is_dead() && belongs(&stat) && pidfd::alive(&fd)).then_some(Member { pid, fd })
}

/// One of its standard descriptors is one of these pipes.
fn has_pipe(pid: i32, pipes: &[u64]) -> bool {
    (0..3).any(|number| {
        let target = std::fs::read_link(format!("/proc/{pid}/fd/{number}")).ok();
        let inode = target
            .as_deref()
            .and_then(|target| target.to_str()?.strip_prefix("pipe:[")?.strip_suffix(']')?.parse().ok());
        inode.is_some_and(|inode| pipes.contains(&inode))
    })
}

fn group_exists(group: i32) -> bool {
    // SAFETY: has no pointers; signal 0 is never delivered.
    let done = unsafe { libc::kill(-group, 0) };
    done == 0 || std::io::Error::last_os_error().raw_os_error() == Some(libc::EPERM)
}

#[cfg(test)]
mod tests {
    use super::{LeftoverQuery, descendants, leftovers};
    use crate::model::duration::Millis;
    use crate::os::cstrings::CStrings;
    use crate::os::spawn::{SpawnPlan, Spawned, spawn};
    use crate::os::{fds, pidfd, poll, reap};
    use std::io::{BufRead, BufReader};
    use std::os::fd::AsFd;

    /// Runs a script that says something once its tree is complete; returns what it said.
    fn shell(script: &str, mark: &str) -> (Spawned, String) {
        let (read, write) = fds::pipe().unwrap();
        let argv = CStrings::from_iter(["bash", "-c", script]);
        let env = CStrings::from_iter(["PATH=/usr/bin:/bin", mark]);
        let child = spawn(&SpawnPlan::new(argv, env).with_fd(1, write.as_fd())).unwrap();
        drop(write);
        let mut line = String::new();
        BufReader::new(std::fs::File::from(read)).read_line(&mut line).unwrap();
        (child, line)
    }

    fn kill(pid: i32, fd: impl AsFd) {
        pidfd::signal(&fd, libc::SIGKILL, pidfd::Scope::Process).unwrap();
        assert!(poll::readable(&fd, Millis::from_secs(20)).unwrap());
        // A grandchild has another reaper.
        drop(reap::one(pid));
    }

    #[test]
    fn finds_grandchildren_in_other_sessions() {
        let (child, _) = shell("setsid sh -c 'sleep 1000 & echo; wait' & sleep 1000 & wait", "A=1");
        let mut members = descendants(child.pid);
        // The line comes after the grandchild was forked, the second sleep may come later.
        while members.len() < 3 {
            members = descendants(child.pid);
        }
        assert!(!members.iter().any(|member| member.pid == child.pid));
        for member in members {
            kill(member.pid, member.fd);
        }
        kill(child.pid, &child.pidfd);
        assert!(descendants(child.pid).is_empty());
    }

    #[test]
    fn finds_what_a_dead_leader_left() {
        let mark = "CLMGR_RUN=test.1";
        let script = "sleep 1000 >&- & a=$!; setsid sleep 1000 >&- & b=$!; echo $a $b";
        let (child, line) = shell(script, mark);
        assert!(poll::readable(&child.pidfd, Millis::from_secs(20)).unwrap());
        reap::one(child.pid).unwrap();
        let expected: Vec<i32> = line.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
        // Without a subreaper the orphans went to whoever inherits here.
        let reaper = crate::os::procfs::stat(expected[0]).unwrap().ppid;
        let query = |known: &dyn Fn(i32) -> bool| {
            let mut found = leftovers(&LeftoverQuery {
                pipes: &[],
                leader: child.pid,
                run_marker: mark.as_bytes(),
                reaper,
                anywhere: true,
                known,
            });
            found.sort_by_key(|member| member.pid);
            found
        };
        let pids = |found: &[super::Member]| found.iter().map(|member| member.pid).collect::<Vec<_>>();
        let mut sorted = expected.clone();
        sorted.sort_unstable();
        assert_eq!(pids(&query(&|_| false)), sorted);
        assert_eq!(pids(&query(&|pid| pid == expected[0])), [expected[1]]);
        for member in query(&|_| false) {
            kill(member.pid, member.fd);
        }
        assert!(query(&|_| false).is_empty());
    }
}
