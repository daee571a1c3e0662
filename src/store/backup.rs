//! A second copy of the state, for the day on which the first cannot be read.
//!
//! It is made on the store thread some seconds after the last change, as a whole and beside the old one, which it then
//! replaces: whatever happens meanwhile, one of the two is sound.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rusqlite::Connection;

use crate::model::time::WallTime;
use crate::store::damage::{is_damaged, with_suffix};

/// Run numbers that may have been given out after the backup was made. A number is never used twice.
const RUNS: u64 = 1_000_000_000;
/// The same for events and apps.
const EVENTS: u64 = 1_000_000;
const APPS: u64 = 100;

fn place(state: &Path) -> PathBuf {
    with_suffix(state, ".bak")
}

/// Copies what is committed.
///
/// # Errors
/// There is no room for it, or the disk fails; the backup from before is untouched.
pub(crate) fn save(connection: &Connection, state: &Path) -> io::Result<()> {
    let fresh = with_suffix(state, ".bak.new");
    let result = write(connection, state, &fresh);
    if result.is_err() {
        remove(&fresh);
    }
    result
}

fn write(connection: &Connection, state: &Path, fresh: &Path) -> io::Result<()> {
    // SQLite takes an empty file for a new one, and this one has the right mode. Secrets are in it.
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(fresh)?;
    let name = fresh.to_str().ok_or(io::ErrorKind::InvalidInput)?;
    connection.execute("VACUUM INTO ?1", [name]).map_err(io::Error::other)?;
    file.sync_all()?;
    rename(fresh, &place(state))?;
    sync_folder(state)
}

/// True if there is one.
pub(crate) fn exists(state: &Path) -> bool {
    place(state).metadata().is_ok_and(|file| file.len() > 0)
}

/// Puts a copy of the backup in the place of the state, which is gone; when it was made. The backup stays. `None` if
/// there is none that can be read.
pub(crate) fn restore(state: &Path) -> Option<WallTime> {
    let backup = place(state);
    if !exists(state) || is_damaged(&backup) {
        return None;
    }
    let made = backup.metadata().and_then(|file| file.modified()).ok()?;
    let fresh = with_suffix(state, ".new");
    let done = std::fs::copy(&backup, &fresh)
        .and_then(|_| adapt(&fresh).map_err(io::Error::other))
        .and_then(|()| File::open(&fresh)?.sync_all())
        .and_then(|()| rename(&fresh, state))
        .and_then(|()| sync_folder(state));
    if done.is_err() {
        remove(&fresh);
        return None;
    }
    let since = made.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(WallTime(i64::try_from(since.as_millis()).unwrap_or(i64::MAX)))
}

/// What was given out after it was made must not be given out again; what it remembers of running apps is too old.
fn adapt(path: &Path) -> Result<(), rusqlite::Error> {
    let connection = Connection::open(path)?;
    connection.execute_batch(&format!(
        "PRAGMA journal_mode = DELETE;
         BEGIN;
         UPDATE counters SET value = value + {RUNS} WHERE name = 'next_run';
         UPDATE counters SET value = value + {APPS} WHERE name = 'next_app';
         UPDATE sqlite_sequence SET seq = seq + {EVENTS} WHERE name = 'events';
         DELETE FROM app_runtime;
         COMMIT;"
    ))
}

fn sync_folder(state: &Path) -> io::Result<()> {
    let folder = state.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

#[expect(clippy::disallowed_methods, reason = "the store owns this file")]
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::rename(from, to)
}

#[expect(clippy::disallowed_methods, reason = "the store owns this file")]
fn remove(path: &Path) {
    // It may not be there; left behind, it is written over next time.
    let _left = std::fs::remove_file(path);
}
