//! The table of children: who lives, who has ended, and what is held for them.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::handover::{self, SavedChild};
use super::protocol::{ChildEntry, ExitReport, FromKeeper, Held};
use super::upgrade;
use crate::model::exit::Exit;
use crate::model::time::Moment;

/// A child and its descriptors, in the order of [`Held::ORDER`].
#[derive(Debug)]
pub(super) struct Child {
    pub(super) pid: i32,
    pub(super) label: Vec<u8>,
    pub(super) started: Moment,
    pub(super) fds: [Option<Arc<OwnedFd>>; 5],
    pub(super) exit: Option<ExitReport>,
}

impl Child {
    pub(super) fn held(&self) -> Held {
        let pairs = Held::ORDER.into_iter().zip(&self.fds);
        pairs.fold(
            Held::default(),
            |set, (one, fd)| if fd.is_some() { set.with(one) } else { set },
        )
    }

    pub(super) fn descriptors(&self) -> impl Iterator<Item = Arc<OwnedFd>> {
        self.fds.iter().flatten().map(Arc::clone)
    }

    /// The one for this.
    pub(super) fn descriptor(&self, what: Held) -> Option<&Arc<OwnedFd>> {
        let mut pairs = Held::ORDER.into_iter().zip(&self.fds);
        pairs.find(|(one, _)| *one == what)?.1.as_ref()
    }

    pub(super) fn pidfd(&self) -> Option<&Arc<OwnedFd>> {
        self.fds[0].as_ref()
    }

    /// Nothing is left to tell or to keep.
    fn is_done(&self) -> bool {
        self.exit.as_ref().is_some_and(|exit| exit.acked) && self.fds.iter().all(Option::is_none)
    }
}

/// All children, by run.
#[derive(Debug, Default)]
pub(super) struct Children {
    runs: BTreeMap<u64, Child>,
    /// The living.
    pids: BTreeMap<i32, u64>,
    /// Exits that are not acknowledged: number to run.
    unacked: BTreeMap<u64, u64>,
    last_seq: u64,
}

impl Children {
    pub(super) fn contains(&self, run: u64) -> bool {
        self.runs.contains_key(&run)
    }

    /// It is in the table and has ended.
    pub(super) fn is_dead(&self, run: u64) -> bool {
        self.runs.get(&run).is_some_and(|child| child.exit.is_some())
    }

    pub(super) fn count(&self) -> usize {
        self.runs.len()
    }

    pub(super) fn living(&self) -> usize {
        self.pids.len()
    }

    /// The living ones, for the last resort.
    pub(super) fn living_pidfds(&self) -> impl Iterator<Item = &Arc<OwnedFd>> {
        let living = self.runs.values().filter(|child| child.exit.is_none());
        living.filter_map(Child::pidfd)
    }

    pub(super) fn get(&self, run: u64) -> Option<&Child> {
        self.runs.get(&run)
    }

    /// Enters a living child.
    pub(super) fn insert(&mut self, run: u64, child: Child) {
        self.pids.insert(child.pid, run);
        self.runs.insert(run, child);
    }

    /// Enters a child that is known to be dead; tell its end with `exited`.
    pub(super) fn insert_dead(&mut self, run: u64, child: Child) {
        self.runs.insert(run, child);
    }

    /// The living run with this pid.
    pub(super) fn run_of(&self, pid: i32) -> Option<u64> {
        self.pids.get(&pid).copied()
    }

    /// Records the end of a living child, and returns its announcement.
    pub(super) fn exited(&mut self, run: u64, exit: Exit, at: Moment) -> Option<FromKeeper> {
        let child = self.runs.get_mut(&run).filter(|child| child.exit.is_none())?;
        // Another run may have this pid by now.
        if self.pids.get(&child.pid) == Some(&run) {
            self.pids.remove(&child.pid);
        }
        self.last_seq += 1;
        let seq = self.last_seq;
        self.unacked.insert(seq, run);
        child.exit = Some(ExitReport {
            seq,
            exit,
            at,
            acked: false,
        });
        self.announcement(run)
    }

    /// A run is another process from now on; what was told of the end of the one before is taken back. False if there
    /// is no such run.
    pub(super) fn follow(&mut self, run: u64, pid: i32, pidfd: Arc<OwnedFd>) -> bool {
        let Some(child) = self.runs.get_mut(&run) else {
            return false;
        };
        if let Some(report) = child.exit.take() {
            self.unacked.remove(&report.seq);
        }
        if self.pids.get(&child.pid) == Some(&run) {
            self.pids.remove(&child.pid);
        }
        child.pid = pid;
        child.fds[0] = Some(pidfd);
        self.pids.insert(pid, run);
        true
    }

    fn announcement(&self, run: u64) -> Option<FromKeeper> {
        let child = self.runs.get(&run)?;
        let report = child.exit.as_ref()?;
        Some(FromKeeper::Exited {
            seq: report.seq,
            run,
            pid: child.pid,
            exit: report.exit,
            at: report.at,
        })
    }

    /// Every exit that is not acknowledged, in order.
    pub(super) fn announcements(&self) -> Vec<FromKeeper> {
        self.unacked
            .values()
            .filter_map(|run| self.announcement(*run))
            .collect()
    }

    /// Exits up to this number need not be told again.
    pub(super) fn ack(&mut self, up_to: u64) {
        while let Some(entry) = self.unacked.first_entry().filter(|entry| *entry.key() <= up_to) {
            let run = entry.remove();
            if let Some(report) = self.runs.get_mut(&run).and_then(|child| child.exit.as_mut()) {
                report.acked = true;
            }
            self.forget(run);
        }
    }

    /// Closes the descriptors of a run that has ended; false while it lives.
    pub(super) fn release(&mut self, run: u64) -> bool {
        let Some(child) = self.runs.get_mut(&run) else {
            return true;
        };
        if child.exit.is_none() {
            return false;
        }
        child.fds = [const { None }; 5];
        self.forget(run);
        true
    }

    /// All of them and the last number of an exit, for the next build.
    pub(super) fn save(&self) -> (Vec<SavedChild>, u64) {
        let saved = |(run, child): (&u64, &Child)| SavedChild {
            entry: entry(*run, child),
            fds: child.fds.iter().flatten().map(handover::number).collect(),
        };
        (self.runs.iter().map(saved).collect(), self.last_seq)
    }

    /// What the build before had.
    pub(super) fn restore(saved: Vec<SavedChild>, last_seq: u64) -> io::Result<Self> {
        let mut children = Self {
            last_seq,
            ..Self::default()
        };
        for SavedChild { entry, fds } in saved {
            let (run, pid) = (entry.run, entry.pid);
            match &entry.exited {
                None => drop(children.pids.insert(pid, run)),
                Some(report) if !report.acked => drop(children.unacked.insert(report.seq, run)),
                Some(_) => {}
            }
            children.runs.insert(run, child(entry, fds)?);
        }
        Ok(children)
    }

    fn forget(&mut self, run: u64) {
        if self.runs.get(&run).is_some_and(Child::is_done) {
            self.runs.remove(&run);
        }
    }

    /// The whole table in parts that fit a message with its descriptors.
    pub(super) fn parts(&self) -> Vec<(FromKeeper, Vec<Arc<OwnedFd>>)> {
        const PART: usize = super::link::MAX_FDS / Held::ORDER.len();
        let all: Vec<_> = self.runs.iter().collect();
        let mut parts: Vec<_> = all.chunks(PART).collect();
        if parts.is_empty() {
            parts.push(&[]);
        }
        let last = parts.len() - 1;
        let message = |(at, part): (usize, &[(&u64, &Child)])| {
            let children = part.iter().map(|(run, child)| entry(**run, child)).collect();
            let fds = part.iter().flat_map(|(_, child)| child.descriptors()).collect();
            (
                FromKeeper::Children {
                    last: at == last,
                    children,
                },
                fds,
            )
        };
        parts.into_iter().enumerate().map(message).collect()
    }
}

/// The reverse of [`entry`], with its descriptors by number.
fn child(entry: ChildEntry, fds: Vec<i32>) -> io::Result<Child> {
    let mut numbers = fds.into_iter();
    let mut held = [const { None }; 5];
    for (one, slot) in Held::ORDER.into_iter().zip(&mut held) {
        if entry.held.has(one) {
            *slot = numbers.next().map(upgrade::take).transpose()?;
        }
    }
    Ok(Child {
        pid: entry.pid,
        label: entry.label,
        started: entry.started,
        fds: held,
        exit: entry.exited,
    })
}

fn entry(run: u64, child: &Child) -> ChildEntry {
    ChildEntry {
        run,
        pid: child.pid,
        label: child.label.clone(),
        started: child.started,
        exited: child.exit.clone(),
        held: child.held(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Child, Children};
    use crate::keeper::protocol::FromKeeper;
    use crate::model::exit::{Exit, ExitStatus};
    use crate::model::time::Moment;
    use crate::os::fds;
    use std::sync::Arc;

    fn child(pid: i32) -> Child {
        Child {
            pid,
            label: Vec::new(),
            started: Moment(1),
            fds: [Some(Arc::new(fds::null().unwrap())), None, None, None, None],
            exit: None,
        }
    }

    #[test]
    fn a_child_stays_until_its_exit_is_known_and_its_descriptors_are_released() {
        let exit = Exit::bare(ExitStatus::Code(3));
        for release_first in [false, true] {
            let mut children = Children::default();
            children.insert(7, child(100));
            children.insert(8, child(101));
            assert!(!children.release(7));
            assert!(matches!(
                children.exited(7, exit, Moment(5)),
                Some(FromKeeper::Exited { seq: 1, run: 7, .. })
            ));
            assert!(children.exited(7, exit, Moment(6)).is_none());
            assert_eq!(
                (children.run_of(100), children.living(), children.count()),
                (None, 1, 2)
            );
            children.ack(0);
            assert_eq!(children.announcements().len(), 1);
            if release_first {
                assert!(children.release(7));
                assert!(children.contains(7));
                children.ack(u64::MAX);
            } else {
                children.ack(1);
                assert!(children.contains(7) && children.announcements().is_empty());
                assert!(children.release(7));
            }
            assert!(!children.contains(7) && children.release(7));
            // The pid of the dead may be used again at once.
            children.insert(9, child(100));
            assert!(matches!(
                children.exited(9, exit, Moment(9)),
                Some(FromKeeper::Exited { seq: 2, .. })
            ));
        }
    }

    #[test]
    fn a_run_that_is_another_process_has_not_ended_with_the_first() {
        let exit = Exit::bare(ExitStatus::Code(0));
        let pidfd = || Arc::new(fds::null().unwrap());
        for ended in [false, true] {
            let mut children = Children::default();
            children.insert(7, child(100));
            if ended {
                children.exited(7, exit, Moment(5)).unwrap();
            }
            assert!(children.follow(7, 200, pidfd()));
            assert!(children.announcements().is_empty());
            // The daemon may still acknowledge what was told.
            children.ack(1);
            assert_eq!((children.run_of(100), children.run_of(200)), (None, Some(7)));
            assert!(matches!(
                children.exited(7, exit, Moment(6)),
                Some(FromKeeper::Exited { pid: 200, .. })
            ));
        }
        assert!(!Children::default().follow(7, 200, pidfd()));
    }

    #[test]
    fn the_table_comes_in_parts_and_never_not_at_all() {
        let mut children = Children::default();
        assert!(matches!(&children.parts()[..], [(FromKeeper::Children { last: true, .. }, fds)] if fds.is_empty()));
        for run in 0..101 {
            children.insert(run, child(1000 + i32::try_from(run).unwrap()));
        }
        let parts = children.parts();
        assert_eq!(parts.iter().map(|(_, fds)| fds.len()).collect::<Vec<_>>(), [50, 50, 1]);
        assert!(matches!(parts[1].0, FromKeeper::Children { last: false, .. }));
    }
}
