//! A state that can be read, but whose file system takes no writes any more: it is served from a copy elsewhere, so that
//! the daemon can look after what runs. Nothing is ever confirmed on a copy.

use std::io;
use std::path::{Path, PathBuf};

use crate::store::damage::with_suffix;

const COMPANIONS: [&str; 4] = ["", "-wal", "-shm", "-journal"];

/// Copies the state and its log into this folder; where the copy is.
///
/// # Errors
/// The state cannot be read, or the folder not be written.
pub(crate) fn borrow(state: &Path, folder: &Path) -> io::Result<PathBuf> {
    let copy = folder.join("clmgr.db.copy");
    for companion in COMPANIONS {
        remove(&with_suffix(&copy, companion))?;
    }
    std::fs::copy(state, &copy)?;
    match std::fs::copy(with_suffix(state, "-wal"), with_suffix(&copy, "-wal")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(_) | Err(_) => Ok(copy),
    }
}

#[expect(clippy::disallowed_methods, reason = "the store owns this file")]
fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
