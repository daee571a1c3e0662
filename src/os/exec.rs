//! This process's own program: where it is, and putting another in its place.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Leads to the program of whoever opens it, whatever became of its file.
const SELF: &str = "/proc/self/exe";

/// The path by which this very program can be executed: `path` if it still leads there, else one that does as long
/// as this process lives. A package manager may have replaced the file meanwhile.
#[must_use]
pub fn own(path: &Path) -> PathBuf {
    let identity = |path: &Path| std::fs::metadata(path).map(|file| (file.dev(), file.ino()));
    match (identity(path), identity(Path::new(SELF))) {
        (Ok(there), Ok(running)) if there == running => path.to_owned(),
        // Without /proc the path has to do.
        (_, Err(_)) => path.to_owned(),
        _ => SELF.into(),
    }
}

/// This program's file, open. It stays what it is when its name is given to another file.
///
/// # Errors
/// There is no `/proc`.
pub fn open_own() -> io::Result<OwnedFd> {
    Ok(File::open(SELF)?.into())
}

/// Puts another program in the place of this one: same process, same children, same signal mask, same environment,
/// and those descriptors that do not close. Returns only if that failed; nothing has changed then.
#[must_use]
pub fn replace(program: &Path, args: &[&OsStr]) -> io::Error {
    let text = |word: &OsStr| CString::new(word.as_bytes());
    let words = std::iter::once(program.as_os_str())
        .chain(args.iter().copied())
        .map(text);
    match (text(program.as_os_str()), words.collect::<Result<Vec<_>, _>>()) {
        (Ok(program), Ok(words)) => match nix::unistd::execv(&program, &words) {
            Ok(never) => match never {},
            Err(errno) => errno.into(),
        },
        (Err(_), _) | (_, Err(_)) => io::ErrorKind::InvalidInput.into(),
    }
}

/// The same with a program that is open (see [`open_own`]).
#[must_use]
pub fn replace_by_file(program: &OwnedFd, args: &[&OsStr]) -> io::Error {
    replace(Path::new(&format!("/proc/self/fd/{}", program.as_raw_fd())), args)
}

/// The name of this process in lists of processes: it would be a number after [`replace_by_file`].
pub fn name_process() {
    // A process without a good name works as well.
    let _unnamed = rustix::thread::set_name(c"clmgr");
}

/// A file in memory with this content. Closes on exec.
///
/// # Errors
/// No memory, or no descriptors are left.
pub fn in_memory(content: &[u8]) -> io::Result<OwnedFd> {
    let mut file = File::from(crate::os::fds::memory("clmgr-keeper")?);
    file.write_all(content)?;
    Ok(file.into())
}

/// All of a file from its beginning.
///
/// # Errors
/// It cannot be read.
pub fn read_all(file: OwnedFd) -> io::Result<(Vec<u8>, OwnedFd)> {
    let mut file = File::from(file);
    let mut content = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut content)?;
    Ok((content, file.into()))
}

#[cfg(test)]
mod tests {
    use super::{in_memory, own, read_all, replace};
    use std::path::Path;

    #[test]
    fn finds_itself_and_says_why_another_cannot_take_its_place() {
        let here = std::env::current_exe().unwrap();
        assert_eq!(own(&here), here);
        assert_eq!(own(Path::new("/bin/true")), Path::new("/proc/self/exe"));
        let error = replace(Path::new("/nonexistent"), &[]);
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
        let (content, file) = read_all(in_memory(b"abc").unwrap()).unwrap();
        assert_eq!(content, b"abc");
        assert_eq!(read_all(file).unwrap().0, b"abc");
    }
}
