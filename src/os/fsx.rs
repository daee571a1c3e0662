//! File-system operations with the guarantees that the standard library leaves to the caller.

use std::ffi::OsString;
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// Makes a folder and its missing parents, each for its owner only (0700). Folders that are there
/// already keep their mode.
///
/// # Errors
/// A folder cannot be made, or something that is no folder has its name.
pub fn create_dir_private(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Replaces a file as one step: a reader sees the old content or the new, and after a power cut one of
/// the two is there. Waits for the disk.
///
/// # Errors
/// The temporary file beside it cannot be written, synced or renamed; the old file is then untouched.
pub fn write_atomic(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let folder = put_in_place(path, content, mode, true)?;
    std::fs::File::open(folder)?.sync_all()
}

/// The same without waiting for the disk: after a power cut anything may be there.
///
/// # Errors
/// As [`write_atomic`].
pub fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    put_in_place(path, content, mode, false).map(drop)
}

/// Returns the folder.
fn put_in_place<'a>(path: &'a Path, content: &[u8], mode: u32, sync: bool) -> io::Result<&'a Path> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}.tmp", std::process::id()));
    let temporary = folder.join(temporary);
    let result = write_and_rename(&temporary, path, content, mode, sync);
    if result.is_err() {
        drop(remove_file(&temporary));
    }
    result.map(|()| folder)
}

#[expect(clippy::disallowed_methods, reason = "this is the place that handles a full disk")]
fn write_and_rename(temporary: &Path, path: &Path, content: &[u8], mode: u32, sync: bool) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(temporary)?;
    file.write_all(content)?;
    if sync {
        file.sync_all()?;
    }
    std::fs::rename(temporary, path)
}

/// Opens a file for appending, made with this mode if it is not there.
///
/// # Errors
/// It cannot be opened.
pub fn open_append(path: &Path, mode: u32) -> io::Result<std::fs::File> {
    OpenOptions::new().append(true).create(true).mode(mode).open(path)
}

/// Removes a file; one that is not there is no error.
///
/// # Errors
/// It is there and cannot be removed.
#[expect(clippy::disallowed_methods, reason = "the wrapper that the other modules use")]
pub fn remove_file(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Bytes that an unprivileged process may still write to the file system holding `path`.
///
/// # Errors
/// The path is not there.
pub fn free_space(path: &Path) -> io::Result<u64> {
    let stats = rustix::fs::statvfs(path)?;
    Ok(stats.f_bavail.saturating_mul(stats.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::{create_dir_private, free_space, remove_file, write_atomic};
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    #[test]
    fn replaces_whole_files_and_leaves_nothing_behind() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("file");
        write_atomic(&path, b"one", 0o600).unwrap();
        write_atomic(&path, b"two", 0o600).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        // A folder cannot be replaced by a file: the temporary file must go.
        let folder = temp.path().join("folder");
        create_dir_private(&folder).unwrap();
        assert!(write_atomic(&folder, b"x", 0o600).is_err());
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 2);
        assert!(write_atomic(Path::new("/"), b"x", 0o600).is_err());
    }

    #[test]
    fn removing_nothing_is_fine_but_a_folder_is_not() {
        let temp = tempfile::tempdir().unwrap();
        remove_file(&temp.path().join("none")).unwrap();
        assert!(remove_file(temp.path()).is_err());
        assert!(free_space(temp.path()).unwrap() > 0);
        assert!(free_space(&temp.path().join("none")).is_err());
    }
}
