//! gzip of rotated files, one at a time, on a thread of the lowest priority.
//!
//! That thread never holds the lock of the names, which the pump may wait for: another one with ordinary priority does
//! the rest. It also gives way to apps that write much ([`Pace`]). What could not be compressed, for want of space above all, stays as it is and is tried again later.
//!
//! A file is compressed to `<path>.gz.tmp`, synced, and only then takes the name of the original,
//! which is looked up by inode because rotation may have renamed it meanwhile. A crash leaves at most
//! the temporary file, or a file beside its finished compressed copy; the next job removes either.

use std::collections::BTreeSet;
use std::fs::{File, Metadata, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use rustix::fs::{rename, unlink};

use crate::logs::chain;
use crate::logs::clock::monotonic;
use crate::logs::file::Counters;
use crate::logs::moment;
use crate::logs::pace::{PIECE, Pace};
use crate::logs::rotate::{HOLES, Shelf, rotated, temporary};
use crate::logs::times::packed;
use crate::model::duration::Millis;
use crate::os::background::lower_priority;
use crate::os::poll::pause;

/// When a file that could not be compressed is tried again, unless its log is rotated before.
const LATER: Millis = Millis::from_secs(60);

/// Hands paths to the gzip thread, which is started with the first one and ends with this value.
#[derive(Debug, Default)]
pub struct Compressor {
    shelf: Shelf,
    jobs: Option<Sender<PathBuf>>,
    pump: Arc<Counters>,
}

impl Compressor {
    /// Gives way to a pump that counts here.
    #[must_use]
    pub fn beside(pump: Arc<Counters>) -> Self {
        Self {
            pump,
            ..Self::default()
        }
    }

    /// The lock under which rotated files are renamed.
    #[must_use]
    pub const fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    /// Compresses all rotated files of the log `path`, soon. When no thread can be started the files
    /// stay as they are and the next job takes them.
    pub fn submit(&mut self, path: &Path) {
        if self.jobs.is_none() {
            let (send, receive) = channel();
            let (shelf, pump) = (self.shelf.clone(), Arc::clone(&self.pump));
            let started = thread::Builder::new()
                .name("logs-gzip".into())
                .spawn(move || work(&receive, &shelf, &pump));
            self.jobs = started.ok().map(|_| send);
        }
        if let Some(jobs) = &self.jobs
            && jobs.send(path.to_owned()).is_err()
        {
            self.jobs = None;
        }
    }

    /// Submits the log if a former process left work: a temporary file, or a rotated one that is not compressed, or is
    /// and was not removed.
    pub fn resume(&mut self, path: &Path) {
        let is_plain = |number| rotated(path, number, false).symlink_metadata().is_ok();
        if temporary(path).exists() || numbers(path).any(is_plain) {
            self.submit(path);
        }
    }
}

fn work(jobs: &Receiver<PathBuf>, shelf: &Shelf, pump: &Counters) {
    let mut failed: BTreeSet<PathBuf> = BTreeSet::new();
    loop {
        let job = if failed.is_empty() {
            jobs.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            jobs.recv_timeout(Duration::from_millis(LATER.0))
        };
        let paths = match job {
            Ok(path) => {
                failed.remove(&path);
                BTreeSet::from([path])
            }
            Err(RecvTimeoutError::Timeout) => std::mem::take(&mut failed),
            Err(RecvTimeoutError::Disconnected) => return,
        };
        for path in paths {
            if compress_beside(&path, shelf, pump).is_err() {
                let _gone = unlink(temporary(&path));
                failed.insert(path);
            }
        }
    }
}

/// Compresses all rotated files of `path` that are not yet, newest first.
///
/// # Errors
/// The first that could not be read or written; it is kept uncompressed.
#[cfg(test)]
pub fn compress_all(path: &Path, shelf: &Shelf) -> io::Result<()> {
    compress_beside(path, shelf, &Counters::default())
}

/// Compresses all rotated files of `path` that are not yet, newest first. The first that could not be read or written
/// is kept uncompressed, and its error returned.
fn compress_beside(path: &Path, shelf: &Shelf, pump: &Counters) -> io::Result<()> {
    let _old = unlink(temporary(path));
    while let Some(original) = pending(path, shelf) {
        compress(path, &original, shelf, pump)?;
    }
    Ok(())
}

/// The newest uncompressed file, opened; removes those that already have a compressed copy.
fn pending(path: &Path, shelf: &Shelf) -> Option<File> {
    let _names = shelf.lock();
    for number in numbers(path) {
        let plain = rotated(path, number, false);
        match File::open(&plain) {
            Ok(_) if rotated(path, number, true).exists() => {
                let _copy_is_complete = unlink(&plain);
            }
            Ok(file) => return Some(file),
            // Compressed already.
            Err(_) => {}
        }
    }
    None
}

/// The numbers of the rotated files, as [`all_rotated`](crate::logs::rotate::all_rotated) has them: a process that was killed in the middle of a
/// rotation leaves one out.
fn numbers(path: &Path) -> impl Iterator<Item = u32> {
    let mut holes = 0;
    (1..=u32::MAX)
        .map(|number| {
            let is_there = |gzip| rotated(path, number, gzip).symlink_metadata().is_ok();
            (number, is_there(false) || is_there(true))
        })
        .take_while(move |(_, is_there)| {
            holes = if *is_there { 0 } else { holes + 1 };
            holes < HOLES
        })
        .filter_map(|(number, is_there)| is_there.then_some(number))
}

fn compress(path: &Path, original: &File, shelf: &Shelf, pump: &Counters) -> io::Result<()> {
    let meta = original.metadata()?;
    let target = temporary(path);
    // The priority of a thread cannot be raised again, so this one ends with the file.
    let file = thread::scope(|scope| {
        thread::Builder::new()
            .name("logs-gzip-one".into())
            .spawn_scoped(scope, || {
                lower_priority();
                write_copy(original, &meta, &target, pump)
            })?
            .join()
            .unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
    })?;
    moment::pass();
    let _names = shelf.lock();
    // Rotation moved it on, or removed it.
    let number = numbers(path).find(|number| {
        let plain = rotated(path, *number, false).symlink_metadata();
        plain.is_ok_and(|plain| (plain.dev(), plain.ino()) == (meta.dev(), meta.ino()))
    });
    match number {
        Some(number) => {
            if let Some(folder) = shelf.times.get() {
                packed(folder, (meta.dev(), meta.ino()), &file);
            }
            rename(&target, rotated(path, number, true))?;
            moment::pass();
            unlink(rotated(path, number, false))?;
        }
        None => unlink(&target)?,
    }
    Ok(())
}

/// The copy has the times, mode and owner of the original: the time of its last line is that of the file.
fn write_copy(original: &File, meta: &Metadata, target: &Path, pump: &Counters) -> io::Result<File> {
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(target)?;
    let mut encoder = chain::encoder(file, meta);
    let moved = || pump.bytes.load(Ordering::Relaxed);
    let mut pace = Pace::new(monotonic(), moved());
    let mut piece = Vec::with_capacity(PIECE);
    while original.take(PIECE as u64).read_to_end(&mut piece)? > 0 {
        encoder.write_all(&piece)?;
        piece.clear();
        if let Some(rest) = pace.rest(monotonic(), moved()) {
            pause(rest);
        }
    }
    let file = encoder.finish()?;
    let mine = file.metadata()?;
    if (mine.uid(), mine.gid()) != (meta.uid(), meta.gid()) {
        // Only root can; otherwise the file is ours.
        let _given = fchown(&file, Some(meta.uid()), Some(meta.gid()));
    }
    file.set_permissions(Permissions::from_mode(meta.mode() & 0o777))?;
    file.set_modified(meta.modified()?)?;
    file.sync_all()?;
    Ok(file)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests make files")]
mod tests {
    use super::{Compressor, compress_all};
    use crate::logs::clock::monotonic;
    use crate::logs::moment;
    use crate::logs::rotate::{Shelf, rotated, temporary};
    use crate::model::duration::Millis;
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    #[test]
    fn an_original_that_was_not_removed_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        // Killed when the copy had its name.
        fs::write(rotated(&path, 1, false), "one").unwrap();
        fs::write(rotated(&path, 1, true), "done").unwrap();
        let mut compressor = Compressor::default();
        compressor.resume(&path);
        let end = monotonic().after(Millis::from_secs(60));
        while rotated(&path, 1, false).exists() {
            assert!(monotonic() < end, "it is still there");
            std::thread::yield_now();
        }
        assert_eq!(fs::read(rotated(&path, 1, true)).unwrap(), b"done");
    }

    #[test]
    fn a_rotation_that_was_cut_short_leaves_nothing_uncompressed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        // Killed between the moves: the newest has its new number, and the current file still its name.
        fs::write(rotated(&path, 2, false), "two").unwrap();
        fs::write(rotated(&path, 4, false), "four").unwrap();
        compress_all(&path, &Shelf::default()).unwrap();
        for number in [2, 4] {
            assert!(!rotated(&path, number, false).exists() && rotated(&path, number, true).exists());
        }
    }

    #[test]
    fn a_copy_is_as_old_as_its_original_and_anybodys_who_that_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        let plain = rotated(&path, 1, false);
        fs::write(&plain, "one\n").unwrap();
        fs::set_permissions(&plain, fs::Permissions::from_mode(0o664)).unwrap();
        if std::os::unix::fs::chown(&plain, Some(12), Some(34)).is_err() {
            eprintln!("SKIPPED in part: giving files away needs root");
        }
        let written = std::time::UNIX_EPOCH + std::time::Duration::from_nanos(1_000_000_000_123_456_789);
        let file = fs::File::options().append(true).open(&plain).unwrap();
        file.set_modified(written).unwrap();
        let before = file.metadata().unwrap();
        compress_all(&path, &Shelf::default()).unwrap();
        let after = rotated(&path, 1, true).metadata().unwrap();
        assert_eq!(after.modified().unwrap(), written);
        let of = |meta: &fs::Metadata| (meta.mode(), meta.uid(), meta.gid());
        assert_eq!(of(&after), of(&before));
    }

    #[test]
    fn a_kill_at_any_step_leaves_the_lines_once() {
        for killed_at in 0..3 {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("a.log");
            fs::write(rotated(&path, 1, false), "one\n").unwrap();
            moment::end_at(killed_at);
            let killed = std::panic::catch_unwind(|| compress_all(&path, &Shelf::default()));
            moment::end_at(u64::MAX);
            assert_eq!(killed.is_err(), killed_at < 2);
            compress_all(&path, &Shelf::default()).unwrap();
            let mut text = String::new();
            let file = fs::File::open(rotated(&path, 1, true)).unwrap();
            flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
            assert_eq!(text, "one\n");
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "killed at {killed_at}");
        }
    }

    #[test]
    fn without_room_the_original_stays() {
        let dir = tempfile::tempdir().unwrap();
        let disk = dir.path().join("disk");
        fs::create_dir(&disk).unwrap();
        let flags = nix::mount::MsFlags::empty();
        if nix::mount::mount(Some("tmpfs"), &disk, Some("tmpfs"), flags, Some("size=64k")).is_err() {
            eprintln!("SKIPPED: mounting a small file system needs root");
            return;
        }
        let path = disk.join("a.log");
        // What cannot be compressed.
        let mut seed = 1u32;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 24) as u8
        })
        .take(50 << 10)
        .collect();
        fs::write(rotated(&path, 1, false), &noise).unwrap();
        assert!(compress_all(&path, &Shelf::default()).is_err());
        assert_eq!(fs::read(rotated(&path, 1, false)).unwrap(), noise);
        assert!(!rotated(&path, 1, true).exists());
        nix::mount::umount(&disk).unwrap();
    }

    #[test]
    fn compresses_what_a_crash_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        fs::write(&path, "current").unwrap();
        fs::write(temporary(&path), "half").unwrap();
        fs::write(rotated(&path, 1, false), "one\n".repeat(1000)).unwrap();
        fs::write(rotated(&path, 2, false), "twice").unwrap();
        fs::write(rotated(&path, 2, true), "done").unwrap();
        fs::write(rotated(&path, 3, false), "three").unwrap();
        compress_all(&path, &Shelf::default()).unwrap();
        let mut text = String::new();
        let file = fs::File::open(rotated(&path, 1, true)).unwrap();
        flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
        assert_eq!(text, "one\n".repeat(1000));
        assert_eq!(fs::read(rotated(&path, 2, true)).unwrap(), b"done");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4);
        assert_eq!(fs::read(&path).unwrap(), b"current");
    }
}
