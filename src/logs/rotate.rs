//! Rotated files: their names, their order, how many stay, and when the next one is due.
//!
//! `<path>.1` is the newest, `.gz` follows the number when compressed. A crash between two renames
//! leaves a gap in the numbers; the next shift fills it, so nothing is overwritten.
//!
//! Nothing here wakes up by itself: a rotation by time is done with the first write after it is due,
//! and a log that is silent is not rotated.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rustix::fs::{rename, unlink};

use crate::logs::moment;
use crate::logs::times::Folder;
use crate::model::duration::Millis;
use crate::model::logspec::Rotation;
use crate::model::time::WallTime;

/// The right to rename and remove rotated files; shared by the pump and the threads that compress and
/// remove, held for a few renames.
#[derive(Clone, Debug, Default)]
pub struct Shelf {
    lock: Arc<Mutex<()>>,
    /// Where the time indexes are, once there is such a folder.
    pub times: Folder,
}

impl Shelf {
    /// Waits for the other side's renames.
    pub fn lock(&self) -> MutexGuard<'_, ()> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The name of rotated file number `number` (1 is the newest).
#[must_use]
pub fn rotated(path: &Path, number: u32, gzip: bool) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(format!(".{number}{}", if gzip { ".gz" } else { "" }));
    PathBuf::from(name)
}

/// Where a file is compressed to before it gets its name.
#[must_use]
pub fn temporary(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".gz.tmp");
    PathBuf::from(name)
}

/// Rotated file number `number` as it is on the disk: its name, whether it is compressed, its bytes.
#[must_use]
pub fn existing(path: &Path, number: u32) -> Option<(PathBuf, bool, u64)> {
    [false, true].into_iter().find_map(|gzip| {
        let name = rotated(path, number, gzip);
        let meta = name.symlink_metadata().ok().filter(std::fs::Metadata::is_file)?;
        Some((name, gzip, meta.len()))
    })
}

/// So many missing numbers in a row are the end. A shift under way leaves out one, one that was cut short another.
pub(super) const HOLES: u32 = 4;

/// The rotated files of a log, newest first, as [`existing`] has them. Safe against a shift meanwhile:
/// files only ever move up, so none is missed, but one may come twice; compare inodes.
pub fn all_rotated(path: &Path) -> impl Iterator<Item = (PathBuf, bool, u64)> {
    let mut holes = 0;
    (1..=u32::MAX)
        .map(move |number| existing(path, number))
        // A shift under way leaves a hole of one, which moves down.
        .take_while(move |found| {
            holes = if found.is_some() { 0 } else { holes + 1 };
            holes < HOLES
        })
        .flatten()
}

/// Makes the current file number 1 and all others one older, then removes what is over the caps. The
/// caller holds the [`Shelf`] and opens a new current file.
///
/// # Errors
/// When the current file could not be renamed; it still has its name then.
pub fn shift(path: &Path, rotation: &Rotation) -> io::Result<()> {
    if rotation.keep == 0 {
        return Ok(unlink(path)?);
    }
    // Older than `keep` has no place; without this a growing chain would be renamed only to be removed.
    remove_from(path, rotation.keep);
    let gap = (1..=rotation.keep)
        .find(|number| existing(path, *number).is_none())
        .unwrap_or(rotation.keep);
    for number in (1..gap).rev() {
        let (plain, zipped) = (rotated(path, number, false), rotated(path, number, true));
        if zipped.symlink_metadata().is_ok() {
            // A process that was killed had compressed it and not removed the original yet. Were both renamed, a
            // kill between the two would leave its lines under two numbers.
            let _original = unlink(&plain);
            rename(&zipped, rotated(path, number + 1, true))?;
        } else if plain.symlink_metadata().is_ok() {
            rename(&plain, rotated(path, number + 1, false))?;
        }
        moment::pass();
    }
    rename(path, rotated(path, 1, false))?;
    enforce(path, rotation);
    Ok(())
}

/// Removes rotated files over `keep` and, oldest first, over `total` bytes. Never the current file.
pub fn enforce(path: &Path, rotation: &Rotation) {
    remove_from(path, rotation.keep.saturating_add(1));
    let Some(total) = rotation.total else { return };
    let mut sum = 0u64;
    for number in 1..=rotation.keep {
        let Some((_, _, size)) = existing(path, number) else {
            return;
        };
        sum = sum.saturating_add(size);
        if sum > total.0 {
            remove_from(path, number);
            return;
        }
    }
}

/// Removes rotated file `first` and all older ones up to the first gap.
pub fn remove_from(path: &Path, first: u32) {
    for number in first.max(1)..=u32::MAX {
        let mut any = false;
        for gzip in [false, true] {
            any |= unlink(rotated(path, number, gzip)).is_ok();
        }
        if !any {
            return;
        }
    }
}

/// The first boundary after `after`: multiples of `every` since local midnight where it divides a day
/// (midnight itself is always one), else multiples since 1970.
#[must_use]
pub fn next_due(every: Millis, after: WallTime, zone: &TimeZone) -> WallTime {
    const DAY: u64 = 86_400_000;
    let step = i64::try_from(every.0.max(1)).unwrap_or(i64::MAX);
    let next = |from: i64| {
        from.saturating_add(
            (after.0.saturating_sub(from) / step)
                .saturating_add(1)
                .saturating_mul(step),
        )
    };
    if !DAY.is_multiple_of(every.0.max(1)) {
        return WallTime(next(0));
    }
    let day = Timestamp::from_millisecond(after.0)
        .ok()
        .map(|stamp| stamp.to_zoned(zone.clone()))
        .and_then(|zoned| {
            let start = zoned.start_of_day().ok()?;
            let end = start.tomorrow().ok()?.start_of_day().ok()?;
            Some((start.timestamp().as_millisecond(), end.timestamp().as_millisecond()))
        });
    match day {
        Some((_, end)) if every.0 == DAY => WallTime(end),
        Some((start, end)) => WallTime(next(start).min(end)),
        None => WallTime(next(0)),
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests make files")]
mod tests {
    use super::{existing, next_due, rotated, shift};
    use crate::logs::moment;
    use crate::model::duration::Millis;
    use crate::model::logspec::Rotation;
    use crate::model::size::Bytes;
    use crate::model::time::WallTime;
    use jiff::tz::TimeZone;
    use std::fs;

    fn rotation(keep: u32, total: u64) -> Rotation {
        Rotation {
            keep,
            total: Some(Bytes(total)),
            ..Rotation::default()
        }
    }

    #[test]
    fn keeps_the_newest_within_both_caps() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        for n in 0..9 {
            fs::write(&path, format!("{n}")).unwrap();
            shift(&path, &rotation(3, 100)).unwrap();
        }
        let numbers = |path: &std::path::Path| {
            (1..9)
                .filter_map(|n| existing(path, n).map(|(name, ..)| fs::read_to_string(name).unwrap()))
                .collect::<String>()
        };
        assert_eq!(numbers(&path), "876");
        fs::write(&path, "9").unwrap();
        shift(&path, &rotation(3, 2)).unwrap();
        assert_eq!(numbers(&path), "98");
        fs::write(&path, "current").unwrap();
        shift(&path, &rotation(0, 2)).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn fills_the_gap_of_a_crash_and_moves_compressed_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        fs::write(rotated(&path, 2, true), "two").unwrap();
        fs::write(rotated(&path, 4, true), "four").unwrap();
        fs::write(&path, "now").unwrap();
        shift(&path, &rotation(10, 100)).unwrap();
        assert!(rotated(&path, 2, true).exists() && rotated(&path, 4, true).exists());
        fs::write(&path, "later").unwrap();
        shift(&path, &rotation(10, 100)).unwrap();
        assert_eq!(fs::read_to_string(rotated(&path, 3, true)).unwrap(), "two");
        assert_eq!(fs::read_to_string(rotated(&path, 2, false)).unwrap(), "now");
    }

    #[test]
    fn a_kill_after_compressing_and_another_while_shifting_double_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        for killed_at in 0..4 {
            for (number, gzip) in [(1, false), (2, false), (2, true), (3, true)] {
                fs::write(rotated(&path, number, gzip), format!("{number}")).unwrap();
            }
            fs::write(&path, "0").unwrap();
            moment::end_at(killed_at);
            let killed = std::panic::catch_unwind(|| shift(&path, &rotation(10, 100)));
            moment::end_at(u64::MAX);
            if killed.is_err() {
                shift(&path, &rotation(10, 100)).unwrap();
            }
            let twice = |n: u32| rotated(&path, n, false).exists() && rotated(&path, n, true).exists();
            assert!(!(1..9).any(twice), "killed at {killed_at}");
            let all = (1..9).filter_map(|n| existing(&path, n));
            let texts: String = all.map(|(name, ..)| fs::read_to_string(name).unwrap()).collect();
            assert_eq!(texts, "0123", "killed at {killed_at}");
            (1..9).for_each(|n| super::remove_from(&path, n));
        }
    }

    #[test]
    fn is_due_at_local_midnight_even_when_the_clock_changes() {
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let at = |text: &str| WallTime(text.parse::<jiff::Timestamp>().unwrap().as_millisecond());
        let day = Millis::from_secs(86_400);
        // The 25-hour day.
        assert_eq!(
            next_due(day, at("2026-10-25T00:00:00+02:00"), &zone),
            at("2026-10-26T00:00:00+01:00")
        );
        assert_eq!(
            next_due(day, at("2026-03-29T05:00:00+02:00"), &zone),
            at("2026-03-30T00:00:00+02:00")
        );
        assert_eq!(
            next_due(Millis::from_secs(21_600), at("2026-06-01T07:00:00+02:00"), &zone),
            at("2026-06-01T12:00:00+02:00")
        );
        assert_eq!(next_due(Millis(7_000), WallTime(8_000), &zone), WallTime(14_000));
    }
}
