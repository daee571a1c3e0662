//! The last words of a run, also of what a former process of this program has read of them.
//!
//! What a process has read of a pipe is gone from it: whoever comes after it would know only the words that followed.
//! So the newest are in a file beside the journal, too:
//!
//! ```text
//!  read ──► memory, <run>-words ──► log file        killed before, between, after: what the journal gives back
//!                 │                                  and the file has already is not taken twice
//!                 └── longer than twice what is kept: written anew under another name, renamed
//! ```
//!
//! It is there from the first byte of standard error until the run is forgotten. Where it cannot be written, the words
//! are in memory alone.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::logs::stderr::{LastLines, MAX_BYTES, newest};
use crate::model::names::RunId;
use crate::os::fsx;

/// Ends the names of the files.
const SUFFIX: &str = "-words";

/// The last words of one run.
#[derive(Debug, Default)]
pub struct LastWords {
    lines: LastLines,
    /// The file, if there is one or is to be one, and its length.
    file: Option<(PathBuf, usize)>,
}

impl LastWords {
    /// Of a run that begins. `folder` is the journal's; without one the words are in memory only.
    #[must_use]
    pub fn new(folder: Option<&Path>, run: RunId) -> Self {
        Self {
            lines: LastLines::default(),
            file: folder.map(|folder| (path(folder, run), 0)),
        }
    }

    /// Of a run that a former process has read.
    #[must_use]
    pub fn again(folder: Option<&Path>, run: RunId) -> Self {
        let mut words = Self::new(folder, run);
        if let Some((path, length)) = &mut words.file
            && let Ok(known) = fs::read(path)
        {
            *length = known.len();
            words.lines.push(&known);
        }
        words
    }

    /// Takes what the app wrote.
    pub fn push(&mut self, data: &[u8]) {
        self.lines.push(data);
        if let Some((path, length)) = &mut self.file
            && keep(path, length, data, &self.lines).is_err()
        {
            // Half of it would be worse than none.
            let _gone = fsx::remove_file(path);
            self.file = None;
        }
    }

    /// Takes what a former process had read and not written to the logs. The beginning of it may be known.
    pub fn push_again(&mut self, data: &[u8]) {
        let known = overlap(&self.lines.bytes(), data);
        self.push(&data[known..]);
    }

    /// The lines, oldest first.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.lines.lines()
    }

    /// The run is over.
    pub fn forget(&self) {
        if let Some((path, 1..)) = &self.file {
            let _gone = fsx::remove_file(path);
        }
    }
}

/// Removes the words of all runs but these.
pub fn forget_others(folder: &Path, is_known: impl Fn(RunId) -> bool) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let is_others = match name.strip_suffix(SUFFIX).and_then(|run| run.parse().ok()) {
            Some(run) => !is_known(RunId(run)),
            // Killed while it wrote one anew.
            None => name.starts_with('.') && name.contains("-words."),
        };
        if is_others {
            let _gone = fsx::remove_file(&entry.path());
        }
    }
}

fn path(folder: &Path, run: RunId) -> PathBuf {
    folder.join(format!("{}{SUFFIX}", run.0))
}

fn keep(path: &Path, length: &mut usize, data: &[u8], lines: &LastLines) -> io::Result<()> {
    let (from, _) = newest(data);
    // The byte before says whether a line was cut.
    let kept = &data[from.saturating_sub(1)..];
    if *length + kept.len() >= 2 * MAX_BYTES {
        let bytes = lines.bytes();
        fsx::replace(path, &bytes, 0o600)?;
        *length = bytes.len();
    } else if !kept.is_empty() {
        fsx::open_append(path, 0o600)?.write_all(kept)?;
        *length += kept.len();
    }
    Ok(())
}

/// How many bytes `known` ends with that `data` begins with.
fn overlap(known: &[u8], data: &[u8]) -> usize {
    // For each beginning of `data`: the length of its longest end that is a beginning, too.
    let mut borders = vec![0; data.len()];
    let longer = |borders: &[usize], mut length: usize, byte: u8| {
        while length > 0 && data.get(length) != Some(&byte) {
            length = borders[length - 1];
        }
        length + usize::from(data.get(length) == Some(&byte))
    };
    for at in 1..data.len() {
        borders[at] = longer(&borders, borders[at - 1], data[at]);
    }
    known.iter().fold(0, |length, byte| longer(&borders, length, *byte))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests make files")]
mod tests {
    use super::{LastWords, forget_others, overlap, path};
    use crate::logs::stderr::MAX_BYTES;
    use crate::model::names::RunId;

    const RUN: RunId = RunId(7);

    #[test]
    fn the_next_process_knows_them() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path();
        let folder = Some(home);
        let mut words = LastWords::new(folder, RUN);
        words.push(b"one\ntw");
        let mut next = LastWords::again(folder, RUN);
        assert_eq!(next.lines(), ["one", "tw"]);
        // `tw` is held by the journal, and `o` was read and noted nowhere else.
        next.push_again(b"two");
        next.push(b"\nthree\n");
        assert_eq!(next.lines(), ["one", "two", "three"]);
        assert_eq!(LastWords::again(folder, RUN).lines(), ["one", "two", "three"]);
        next.forget();
        assert!(!path(home, RUN).exists());
    }

    #[test]
    fn the_file_is_bounded_and_says_the_same_as_the_memory() {
        let folder = tempfile::tempdir().unwrap();
        let mut words = LastWords::new(Some(folder.path()), RUN);
        for n in 0..5000_usize {
            words.push(format!("{n} {}\n", "x".repeat(n * 13 % 3000)).as_bytes());
            let length = std::fs::metadata(path(folder.path(), RUN)).unwrap().len();
            assert!(length <= 2 * MAX_BYTES as u64);
        }
        assert_eq!(LastWords::again(Some(folder.path()), RUN).lines(), words.lines());
        let long = "x".repeat(999);
        for (line, size) in [("a line", 1 << 20), ("a line", 200), (&long[..], 400), (&long[..], 65)] {
            words.push(b"the beginning of");
            words.push(format!("{line}\n").repeat(size).as_bytes());
            words.push(b"half");
            assert_eq!(
                LastWords::again(Some(folder.path()), RUN).lines(),
                words.lines(),
                "{size}"
            );
        }
        words.push(&vec![b'y'; 1 << 20]);
        assert_eq!(LastWords::again(Some(folder.path()), RUN).lines(), words.lines());
        assert_eq!(words.lines()[0].len(), MAX_BYTES);
    }

    #[test]
    fn silence_makes_no_file_and_without_a_folder_there_is_none() {
        let folder = tempfile::tempdir().unwrap();
        LastWords::new(Some(folder.path()), RUN).forget();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let mut words = LastWords::new(None, RUN);
        words.push(b"one\n");
        assert_eq!(words.lines(), ["one"]);
        let mut words = LastWords::new(Some(&folder.path().join("missing")), RUN);
        words.push(b"one\n");
        words.push(b"two\n");
        assert_eq!(words.lines(), ["one", "two"]);
    }

    #[test]
    fn what_nobody_claims_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["7-words", "8-words", ".7-words.12.tmp", "8-err", "record", "x-words"] {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        forget_others(folder.path(), |run| run == RUN);
        let mut left: Vec<String> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["7-words", "8-err", "record", "x-words"]);
    }

    #[test]
    fn finds_what_is_known() {
        for (known, data, expected) in [
            ("", "abc", 0),
            ("abc", "", 0),
            ("one\ntw", "two", 2),
            ("one\ntwo\n", "two\n", 4),
            ("xaab", "aabc", 3),
            ("aaaa", "aab", 2),
            ("abcd", "bc", 0),
            ("ab", "abab", 2),
            ("long text", "text", 4),
        ] {
            assert_eq!(
                overlap(known.as_bytes(), data.as_bytes()),
                expected,
                "{known:?} {data:?}"
            );
        }
    }
}
