//! What `config` may ask about the machine, answered from the file system.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::cli::failure::Failure;
use crate::config::FileKind;
use crate::model::env::{self, EnvMap};
use crate::model::runtime::{RUNTIME_VAR, STEP_VAR};

/// The largest file that is read as text.
pub(crate) const LARGEST: u64 = 16 << 20;

/// The environment of this process. Names that are no UTF-8 cannot be written in a file and are dropped;
/// values are kept byte by byte.
pub(crate) fn environment() -> EnvMap {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into())))
        .filter(|(name, _)| env::is_name(name) && name != RUNTIME_VAR && name != STEP_VAR)
        .collect()
}

/// The working folder.
pub(crate) fn here() -> Result<PathBuf, Failure> {
    std::env::current_dir().map_err(|error| {
        Failure::failed(format!("the current folder cannot be found: {error}")).hint("cd to a folder that exists")
    })
}

/// Reads text of at most [`LARGEST`] bytes.
pub(crate) fn read_text(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Err(io::Error::other(format!("it is larger than {} MiB", LARGEST >> 20)));
    }
    String::from_utf8(bytes)
        .map_err(|error| io::Error::other(format!("it is not UTF-8 (byte {})", error.utf8_error().valid_up_to())))
}

/// What a path leads to.
pub(crate) fn file_kind(path: &Path) -> FileKind {
    match fs::metadata(path) {
        Err(_) => FileKind::Missing,
        Ok(found) if found.is_dir() => FileKind::Folder,
        Ok(_) if nix::unistd::access(path, nix::unistd::AccessFlags::X_OK).is_ok() => FileKind::Program,
        Ok(_) => FileKind::File,
    }
}

/// True if the caller's `PATH` has a program of this name.
pub(crate) fn which(name: &str) -> bool {
    let Some(path) = std::env::var_os("PATH") else {
        return false;
    };
    !name.is_empty()
        && !name.contains('/')
        && std::env::split_paths(&path).any(|folder| file_kind(&folder.join(name)) == FileKind::Program)
}

/// The names in a folder; empty if it cannot be read.
pub(crate) fn list_dir(path: &Path) -> Vec<String> {
    fs::read_dir(path).map_or_else(
        |_| Vec::new(),
        |entries| {
            entries
                .flatten()
                .filter_map(|entry| entry.file_name().into_string().ok())
                .collect()
        },
    )
}

/// The caller's home folder.
pub(crate) fn user_home() -> Option<PathBuf> {
    std::env::var_os("HOME")
        .filter(|home| Path::new(home) != Path::new(OsStr::new("")))
        .map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::{file_kind, list_dir, read_text, which};
    use crate::config::FileKind;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;

    #[test]
    fn tells_what_a_path_leads_to() {
        assert_eq!(file_kind(Path::new("/")), FileKind::Folder);
        assert_eq!(file_kind(Path::new("/bin/sh")), FileKind::Program);
        assert_eq!(file_kind(Path::new("/etc/passwd")), FileKind::File);
        assert_eq!(file_kind(Path::new(OsStr::from_bytes(b"/\xff/x"))), FileKind::Missing);
        assert!(which("sh") && !which("no-such-program") && !which("") && !which("/bin/sh"));
        assert!(list_dir(Path::new("/no/such/folder")).is_empty());
    }

    #[test]
    fn refuses_text_that_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(OsStr::from_bytes(b"\xfe.toml"));
        std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .unwrap();
        assert_eq!(read_text(&path).unwrap(), "");
        use std::io::Write;
        std::fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(b"ab\xff")
            .unwrap();
        assert!(read_text(&path).unwrap_err().to_string().contains("byte 2"));
    }
}
