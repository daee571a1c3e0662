//! A file that cannot be read any more is kept, but put aside.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use crate::model::time::WallTime;

/// True if SQLite itself finds the file broken.
pub(crate) fn is_damaged(path: &Path) -> bool {
    let check = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .and_then(|connection| connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0)));
    match check {
        Ok(verdict) => verdict != "ok",
        Err(error) => crate::store::error::is_damage(&error),
    }
}

/// What SQLite would have said.
pub(crate) fn error() -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT), None)
}

/// Renames the file and its companions to `<name>.damaged-<ms since 1970>[-wal|-shm]`.
///
/// # Errors
/// If a rename fails; a companion that is not there is no error.
pub(crate) fn move_aside(path: &Path, now: WallTime) -> io::Result<PathBuf> {
    let aside = with_suffix(path, &format!(".damaged-{}", now.0));
    for companion in ["-wal", "-shm", "-journal"] {
        match rename(&with_suffix(path, companion), &with_suffix(&aside, companion)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    rename(path, &aside)?;
    Ok(aside)
}

pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

#[expect(clippy::disallowed_methods, reason = "the store owns this file")]
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::rename(from, to)
}
