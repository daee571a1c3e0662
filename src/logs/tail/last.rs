//! The last lines of a log, through its rotated and compressed files.

use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use memchr::memrchr_iter;

use crate::logs::chain::{Identity, Position};
use crate::logs::rotate::all_rotated;
use crate::logs::tail::split::Splitter;

/// Bytes read at a time.
const BLOCK: usize = 64 << 10;

/// What [`last`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Last {
    /// Oldest first, without newlines.
    pub lines: Vec<Vec<u8>>,
    /// Where a [`Follower`](super::Follower) goes on; none when there is no current file.
    pub position: Option<Position>,
}

/// The last `count` lines of the log `path`, oldest first; an unfinished line at the end counts. No
/// file is no lines.
///
/// # Errors
/// When a file exists and cannot be read.
pub fn last_lines(path: &Path, count: usize) -> io::Result<Vec<Vec<u8>>> {
    last(path, count, true).map(|last| last.lines)
}

/// Like [`last_lines`]; with `unfinished` false, an unfinished line at the end is left for the
/// follower.
///
/// # Errors
/// When a file exists and cannot be read.
pub fn last(path: &Path, count: usize, unfinished: bool) -> io::Result<Last> {
    let mut found = Last::default();
    let mut seen = BTreeSet::new();
    match File::open(path) {
        Ok(file) => {
            let meta = file.metadata()?;
            seen.insert((meta.dev(), meta.ino()));
            let (lines, end) = plain(&file, count, unfinished)?;
            found.lines = lines;
            found.position = Some(Position {
                identity: Identity::of(&meta),
                offset: end,
            });
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    for (name, gzip, _) in all_rotated(path) {
        let missing = count.saturating_sub(found.lines.len());
        if missing == 0 {
            break;
        }
        let (file, gzip) = match File::open(&name) {
            Ok(file) => (file, gzip),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Compressed, or moved up, this very moment.
                let mut zipped = name.into_os_string();
                zipped.push(".gz");
                match File::open(zipped) {
                    Ok(file) => (file, true),
                    Err(_) => continue,
                }
            }
            Err(error) => return Err(error),
        };
        let meta = file.metadata()?;
        // One that was read under another name.
        if !seen.insert((meta.dev(), meta.ino())) {
            continue;
        }
        let mut older = if gzip {
            zipped(&file, missing)?
        } else {
            plain(&file, missing, true)?.0
        };
        older.append(&mut found.lines);
        found.lines = older;
    }
    Ok(found)
}

/// Finds the beginning from the end, block by block, then reads forward. Also returns where it ended.
fn plain(mut file: &File, count: usize, unfinished: bool) -> io::Result<(Vec<Vec<u8>>, u64)> {
    let size = file.metadata()?.len();
    let mut block = vec![0; BLOCK];
    let mut end = size;
    let mut start = 0;
    // A newline at the very end belongs to the last line.
    let mut ends = 0;
    let mut at = size;
    'search: while at > 0 {
        let from = at.saturating_sub(BLOCK as u64);
        let part = usize::try_from(at - from).unwrap_or(BLOCK);
        let part = block.get_mut(..part).unwrap_or_default();
        file.read_exact_at(part, from)?;
        for newline in memrchr_iter(b'\n', part) {
            let after = from + newline as u64 + 1;
            if ends == 0 {
                if unfinished && after < size {
                    ends = 1;
                } else {
                    end = after;
                }
            }
            if ends == count {
                start = after;
                break 'search;
            }
            ends += 1;
        }
        at = from;
    }
    if ends == 0 && !unfinished {
        return Ok((Vec::new(), 0));
    }
    if count == 0 {
        return Ok((Vec::new(), end));
    }
    file.seek(SeekFrom::Start(start))?;
    let mut lines = VecDeque::new();
    collect(file.take(end - start), count, &mut lines)?;
    Ok((lines.into(), end))
}

fn zipped(file: &File, count: usize) -> io::Result<Vec<Vec<u8>>> {
    let mut lines = VecDeque::new();
    match collect(MultiGzDecoder::new(BufReader::new(file)), count, &mut lines) {
        // A damaged file still has the lines before the damage.
        Err(error) if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput) => {}
        other => other?,
    }
    Ok(lines.into())
}

/// Keeps the last `count` lines of a reader.
fn collect(mut from: impl Read, count: usize, lines: &mut VecDeque<Vec<u8>>) -> io::Result<()> {
    let mut keep = |line| {
        lines.push_back(line);
        if lines.len() > count {
            lines.pop_front();
        }
    };
    let mut block = vec![0; BLOCK];
    let mut splitter = Splitter::default();
    let result = loop {
        match from.read(&mut block) {
            Ok(0) => break Ok(()),
            Ok(read) => splitter.push(block.get(..read).unwrap_or_default(), &mut keep),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => break Err(error),
        }
    };
    if let Some(line) = splitter.finish() {
        keep(line);
    }
    result
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests make files")]
mod tests {
    use super::{last, last_lines};
    use crate::logs::compress::compress_all;
    use crate::logs::rotate::{Shelf, rotated};
    use std::fs;

    fn numbers(range: std::ops::Range<usize>) -> String {
        range.map(|n| format!("line {n}\n")).collect()
    }

    #[test]
    fn reads_back_through_rotated_and_compressed_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        assert_eq!(last_lines(&path, 5).unwrap().len(), 0);
        fs::write(rotated(&path, 2, false), numbers(0..50_000)).unwrap();
        fs::write(rotated(&path, 1, false), numbers(50_000..100_000)).unwrap();
        compress_all(&path, &Shelf::default()).unwrap();
        fs::write(rotated(&path, 1, false), "").unwrap();
        fs::remove_file(rotated(&path, 1, false)).unwrap();
        fs::write(&path, numbers(100_000..120_000)).unwrap();
        for count in [0, 1, 7, 19_999, 20_000, 20_001, 70_001, 120_000, 200_000] {
            let lines = last_lines(&path, count).unwrap();
            let first = 120_000usize.saturating_sub(count);
            assert_eq!(lines.len(), 120_000 - first);
            for (at, line) in lines.iter().enumerate() {
                assert_eq!(line, format!("line {}", first + at).as_bytes());
            }
        }
    }

    #[test]
    fn counts_an_unfinished_line_or_leaves_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        fs::write(&path, "a\nb\nc").unwrap();
        assert_eq!(last_lines(&path, 2).unwrap(), [b"b", b"c"]);
        let found = last(&path, 2, false).unwrap();
        assert_eq!(found.lines, [b"a", b"b"]);
        assert_eq!(found.position.unwrap().offset, 4);
        for (text, lines) in [("x", 1), ("\n", 1), ("\n\n", 2), ("a\n\nb", 3)] {
            fs::write(&path, text).unwrap();
            assert_eq!(last_lines(&path, 9).unwrap().len(), lines, "{text:?}");
        }
        fs::write(&path, vec![b'x'; 3 << 20]).unwrap();
        assert_eq!(last_lines(&path, 9).unwrap().len(), 3);
    }
}
