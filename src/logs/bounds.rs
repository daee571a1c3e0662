//! Which rotated files have to go, and when to look again. Pure: files in, decisions out.
//!
//! Three rules besides those of a single log (`keep`, see [`crate::logs::rotate`]):
//!
//! | rule | a rotated file goes |
//! |---|---|
//! | `max_age` | when its last line is older |
//! | `total` | when the files of its app are larger together, and it is the oldest of them |
//! | `min_free` | when less of its file system is free, and it is the oldest there |
//!
//! A log loses its oldest file only, so no gap appears in its numbers. Among the logs the one whose oldest file has the
//! oldest last line is first. Current files count for `total` and never go.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use crate::model::duration::Millis;
use crate::model::logspec::Rotation;
use crate::model::names::AppName;
use crate::model::time::WallTime;

/// How often free space and totals are looked at while nothing else is to do.
pub const LOOK: Millis = Millis::from_secs(300);

/// A log and its rotated files, as they are on the disk.
#[derive(Clone, Debug)]
pub struct Found {
    /// Whose.
    pub app: AppName,
    /// The rules for it.
    pub rotation: Arc<Rotation>,
    /// Of the folder: which file system.
    pub device: u64,
    /// Bytes of the current file; 0 if there is none.
    pub current: u64,
    /// Oldest first.
    pub rotated: Vec<Old>,
}

/// A rotated file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Old {
    /// Its number.
    pub number: u32,
    /// When its last line was written.
    pub written: WallTime,
    /// Its bytes.
    pub size: u64,
    /// What it takes of the disk, in bytes.
    pub room: u64,
    /// The inode.
    pub inode: u64,
}

/// How full a file system is, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// What can be written.
    pub free: u64,
    /// Its size.
    pub size: u64,
}

/// Why a file goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// Its last line is older than `max_age`.
    Age,
    /// The app's logs are larger than `total`.
    Total,
    /// Less than `min_free` is free.
    Free,
}

/// A file that has to go: of which log, by its place in the list, and which.
pub type Victim = (usize, Old, Why);

/// What has to go now, in this order. `spaces` are the file systems whose floor is to be kept; of the others nothing
/// is known.
#[must_use]
pub fn victims(logs: &[Found], now: WallTime, spaces: &BTreeMap<u64, Space>) -> Vec<Victim> {
    let mut plan = Plan {
        logs,
        left: logs.iter().map(|log| &log.rotated[..]).collect(),
        victims: Vec::new(),
    };
    plan.too_old(now);
    plan.over_total();
    for (device, space) in spaces {
        plan.under_floor(*device, *space);
    }
    plan.victims
}

/// When the next file will be too old, or free space and totals are to be looked at again; `None`: nothing will ever have to go
/// unless something is rotated.
#[must_use]
pub fn next_look(logs: &[Found], now: WallTime) -> Option<WallTime> {
    let due = |log: &Found| {
        let oldest = log.rotated.first()?;
        let old = log.rotation.max_age.map(|age| after(oldest.written, age));
        // Others fill the disk; current files grow.
        let watched = log.rotation.min_free.floor(u64::MAX) > 0 || log.rotation.total.is_some();
        let look = watched.then(|| after(now, LOOK));
        [old, look].into_iter().flatten().min()
    };
    logs.iter().filter_map(due).min()
}

fn after(at: WallTime, span: Millis) -> WallTime {
    WallTime(at.0.saturating_add(i64::try_from(span.0).unwrap_or(i64::MAX)))
}

struct Plan<'a> {
    logs: &'a [Found],
    /// The rotated files that stay so far.
    left: Vec<&'a [Old]>,
    victims: Vec<Victim>,
}

impl<'a> Plan<'a> {
    fn take(&mut self, log: usize, why: Why) {
        if let Some((first, rest)) = self.left.get(log).and_then(|left| left.split_first()) {
            self.victims.push((log, *first, why));
            self.left[log] = rest;
        }
    }

    fn too_old(&mut self, now: WallTime) {
        for (number, log) in self.logs.iter().enumerate() {
            let Some(age) = log.rotation.max_age else { continue };
            let is_old = |left: &[Old]| left.first().is_some_and(|old| after(old.written, age) <= now);
            while is_old(self.left[number]) {
                self.take(number, Why::Age);
            }
        }
    }

    fn over_total(&mut self) {
        let mut apps: BTreeMap<&AppName, Vec<usize>> = BTreeMap::new();
        for (number, log) in self.logs.iter().enumerate() {
            apps.entry(&log.app).or_default().push(number);
        }
        for logs in apps.into_values() {
            // One app has one setting, except while a new one is rolled out.
            let Some(total) = logs.iter().filter_map(|log| self.logs[*log].rotation.total).min() else {
                continue;
            };
            let sizes = logs.iter().map(|log| {
                let rotated = self.left[*log].iter().map(|old| old.size).sum::<u64>();
                self.logs[*log].current.saturating_add(rotated)
            });
            let mut sum: u64 = sizes.fold(0, u64::saturating_add);
            let mut queue = self.by_age(logs.into_iter());
            while sum > total.0
                && let Some(old) = self.next(&mut queue, Why::Total)
            {
                sum = sum.saturating_sub(old.size);
            }
        }
    }

    fn under_floor(&mut self, device: u64, space: Space) {
        let gone = |(log, old, _): &Victim| (self.logs[*log].device == device).then_some(old.room);
        let mut free = self
            .victims
            .iter()
            .filter_map(gone)
            .fold(space.free, u64::saturating_add);
        let there = (0..self.logs.len()).filter(|log| self.logs[*log].device == device);
        let mut queue = self.by_age(there.collect::<Vec<_>>().into_iter());
        while let Some(Reverse((_, log))) = queue.peek().copied() {
            if free >= self.logs[log].rotation.min_free.floor(space.size) {
                // This log is content; another one may want more.
                queue.pop();
            } else if let Some(old) = self.next(&mut queue, Why::Free) {
                free = free.saturating_add(old.room);
            }
        }
    }

    /// Logs by the age of their oldest file.
    fn by_age(&self, logs: impl Iterator<Item = usize>) -> BinaryHeap<Reverse<(WallTime, usize)>> {
        logs.filter_map(|log| Some(Reverse((self.left[log].first()?.written, log))))
            .collect()
    }

    /// Takes the oldest file of the first log in the queue, which then queues up again.
    fn next(&mut self, queue: &mut BinaryHeap<Reverse<(WallTime, usize)>>, why: Why) -> Option<Old> {
        let Reverse((_, log)) = queue.pop()?;
        let old = *self.left[log].first()?;
        self.take(log, why);
        if let Some(next) = self.left[log].first() {
            queue.push(Reverse((next.written, log)));
        }
        Some(old)
    }
}

#[cfg(test)]
mod tests {
    use super::{Found, LOOK, Old, Space, Why, next_look, victims};
    use crate::model::duration::Millis;
    use crate::model::logspec::{MinFree, Rotation};
    use crate::model::size::Bytes;
    use crate::model::time::WallTime;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    fn log(app: &str, rotation: &Rotation, current: u64, written: &[i64]) -> Found {
        let old = |(age, at): (usize, &i64)| Old {
            number: u32::try_from(written.len() - age).unwrap(),
            written: WallTime(*at),
            size: 10,
            room: 16,
            inode: 0,
        };
        Found {
            app: app.parse().unwrap(),
            rotation: Arc::new(rotation.clone()),
            device: 1,
            current,
            rotated: written.iter().enumerate().map(old).collect(),
        }
    }

    fn gone(logs: &[Found], now: i64, free: Option<u64>) -> Vec<(usize, i64, Why)> {
        let spaces = free.map(|free| (1, Space { free, size: 1000 }));
        victims(logs, WallTime(now), &spaces.into_iter().collect())
            .into_iter()
            .map(|(log, old, why)| (log, old.written.0, why))
            .collect()
    }

    fn rules() -> Rotation {
        Rotation {
            total: None,
            min_free: MinFree::Off,
            ..Rotation::default()
        }
    }

    #[test]
    fn what_is_too_old_goes() {
        let week = Rotation {
            max_age: Some(Millis(7)),
            ..rules()
        };
        let logs = [log("a", &week, 5, &[1, 2, 3]), log("b", &rules(), 5, &[1])];
        assert_eq!(gone(&logs, 7, None), []);
        assert_eq!(gone(&logs, 9, None), [(0, 1, Why::Age), (0, 2, Why::Age)]);
        assert_eq!(next_look(&logs, WallTime(5)), Some(WallTime(8)));
        assert_eq!(next_look(&logs[1..], WallTime(5)), None);
        assert_eq!(next_look(&[log("a", &week, 5, &[])], WallTime(5)), None);
    }

    #[test]
    fn an_app_has_one_total_over_all_its_logs() {
        let small = Rotation {
            total: Some(Bytes(45)),
            ..rules()
        };
        // 25 of current files, 50 of rotated ones; another app's are its own.
        let logs = [
            log("a", &small, 20, &[3, 6, 7]),
            log("b", &small, 45, &[]),
            log("a", &small, 5, &[4, 5]),
        ];
        assert_eq!(
            gone(&logs, 9, None),
            [(0, 3, Why::Total), (2, 4, Why::Total), (2, 5, Why::Total)]
        );
        // The current files alone are too much: they stay.
        let logs = [log("a", &small, 50, &[3])];
        assert_eq!(gone(&logs, 9, None), [(0, 3, Why::Total)]);
        // They may grow without a rotation.
        assert_eq!(next_look(&logs, WallTime(0)).map(|at| at.0), i64::try_from(LOOK.0).ok());
    }

    #[test]
    fn the_oldest_of_all_apps_go_until_the_floor_is_reached() {
        let floor = |bytes| Rotation {
            min_free: MinFree::Bytes(Bytes(bytes)),
            ..rules()
        };
        let logs = [
            log("a", &floor(100), 20, &[3, 6]),
            log("b", &floor(60), 20, &[1, 5]),
            log("c", &rules(), 20, &[0]),
        ];
        assert_eq!(gone(&logs, 9, Some(100)), []);
        assert_eq!(gone(&logs, 9, Some(99)), [(0, 3, Why::Free)]);
        // `b` is content with 60; `c` has asked for nothing.
        assert_eq!(
            gone(&logs, 9, Some(50)),
            [(1, 1, Why::Free), (0, 3, Why::Free), (0, 6, Why::Free)]
        );
        assert_eq!(gone(&logs, 9, Some(0)).len(), 4);
        assert_eq!(gone(&logs, 9, None), []);
        assert_eq!(next_look(&logs, WallTime(0)).map(|at| at.0), i64::try_from(LOOK.0).ok());
        // What goes for its age has made room already.
        let aged = Rotation {
            max_age: Some(Millis(5)),
            ..floor(100)
        };
        assert_eq!(gone(&[log("a", &aged, 1, &[2, 6])], 9, Some(90)), [(0, 2, Why::Age)]);
    }

    proptest! {
        #[test]
        fn a_log_loses_its_oldest_files_and_no_more_than_needed(
            logs in prop::collection::vec((0..3u8, 0..40u64, prop::collection::vec(0..50i64, 0..6), 0..90u64, 0..90u64, 1..60u64), 0..6),
            free in 0..90u64,
        ) {
            let logs: Vec<Found> = logs.into_iter().map(|(app, current, mut written, total, floor, age)| {
                written.sort_unstable();
                let rotation = Rotation {
                    total: Some(Bytes(total)),
                    min_free: MinFree::Bytes(Bytes(floor)),
                    max_age: Some(Millis(age)),
                    ..rules()
                };
                log(&format!("a{app}"), &rotation, current, &written)
            }).collect();
            let spaces = BTreeMap::from([(1, Space { free, size: 1000 })]);
            let victims = victims(&logs, WallTime(50), &spaces);
            for (number, log) in logs.iter().enumerate() {
                let of: Vec<Old> = victims.iter().filter(|(log, ..)| *log == number).map(|(_, old, _)| *old).collect();
                prop_assert_eq!(&of[..], &log.rotated[..of.len()]);
                let kept = &log.rotated[of.len()..];
                let age = log.rotation.max_age.unwrap().0.cast_signed();
                prop_assert!(kept.iter().all(|old| old.written.0 + age > 50));
                let now_free = free + 16 * victims.len() as u64;
                prop_assert!(kept.is_empty() || now_free >= log.rotation.min_free.floor(1000));
            }
            // The last one that went for want of space was needed.
            if let Some((log, _, Why::Free)) = victims.last() {
                let before = free + 16 * (victims.len() as u64 - 1);
                prop_assert!(before < logs[*log].rotation.min_free.floor(1000));
            }
        }
    }
}
