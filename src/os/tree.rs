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
    /// The subreaper that orphans are given to.
    pub reaper: i32,
    /// Look among the children of pid 1 too: the leader lived under a reaper that has died.
    pub with_init: bool,
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
    let mut orphans = procfs::children(query.reaper);
    if query.with_init && query.reaper != 1 {
        orphans.extend(procfs::children(1));
    }
    for pid in orphans {
        take(pid, query, &mut found, &mut seen, &|stat| {
            stat.session == query.leader || stat.pgrp == query.leader || procfs::environ_has(pid, query.run_marker)
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

fn group_exists(group: i32) -> bool {
    // SAFETY: has no pointers; signal 0 is never delivered.
    let done = unsafe { libc::kill(-group, 0) };
    done == 0 || std::io::Error::last_os_error().raw_os_error() == Some(libc::EPERM)
}
