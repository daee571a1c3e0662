//! gzip of rotated files, on a thread of its own with the lowest priority, one file at a time.
//!
//! A file is compressed to `<path>.gz.tmp`, synced, and only then takes the name of the original,
//! which is looked up by inode because rotation may have renamed it meanwhile. A crash leaves at most
//! the temporary file, or a file beside its finished compressed copy; the next job removes either.

use std::fs::File;
use std::io::{self, BufReader};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use rustix::fs::{rename, unlink};

use crate::logs::chain;
use crate::logs::rotate::{HOLES, Shelf, rotated, temporary};
use crate::logs::times::packed;

/// Hands paths to the gzip thread, which is started with the first one and ends with this value.
#[derive(Debug, Default)]
pub struct Compressor {
    shelf: Shelf,
    jobs: Option<Sender<PathBuf>>,
}

impl Compressor {
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
            let shelf = self.shelf.clone();
            let started = thread::Builder::new()
                .name("logs-gzip".into())
                .spawn(move || work(&receive, &shelf));
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

fn work(jobs: &Receiver<PathBuf>, shelf: &Shelf) {
    // Of this thread only: on Linux the nice value belongs to the thread. Failing costs priority only.
    let _niced = rustix::process::setpriority_process(None, 19);
    for path in jobs {
        if compress_all(&path, shelf).is_err() {
            let _gone = unlink(temporary(&path));
        }
    }
}

/// Compresses all rotated files of `path` that are not yet, newest first.
///
/// # Errors
/// The first that could not be read or written; it is kept uncompressed.
pub fn compress_all(path: &Path, shelf: &Shelf) -> io::Result<()> {
    let _old = unlink(temporary(path));
    while let Some(original) = pending(path, shelf) {
        compress(path, &original, shelf)?;
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

fn compress(path: &Path, original: &File, shelf: &Shelf) -> io::Result<()> {
    let meta = original.metadata()?;
    let target = temporary(path);
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(meta.mode() & 0o777)
        .open(&target)?;
    let mut encoder = chain::encoder(file, &meta);
    io::copy(&mut BufReader::with_capacity(64 << 10, original), &mut encoder)?;
    let file = encoder.finish()?;
    file.set_modified(meta.modified()?)?;
    file.sync_all()?;
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
            unlink(rotated(path, number, false))?;
        }
        None => unlink(&target)?,
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests make files")]
mod tests {
    use super::{Compressor, compress_all};
    use crate::logs::clock::monotonic;
    use crate::logs::rotate::{Shelf, rotated, temporary};
    use crate::model::duration::Millis;
    use std::fs;
    use std::io::Read;

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
