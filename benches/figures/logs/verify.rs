//! Whether all lines are there: no figure counts if one was lost.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::ensure;
use memchr::memmem;

use crate::logs::writer::until;

/// Bytes of a line, its newline included. As in `lines.c`.
pub(super) const LINE: usize = 100;

/// Longer than a line in any format.
const LONGEST: usize = 512;

/// Returns when each of the files ends with the last line.
pub(super) fn wait_for_end<P: AsRef<Path>>(paths: &[P], lines: u64) -> anyhow::Result<()> {
    let mut open: Vec<&Path> = paths.iter().map(AsRef::as_ref).collect();
    until("the logs are complete", || {
        open.retain(|path| last(path).is_none_or(|number| number + 1 < lines));
        Ok(open.is_empty())
    })
}

/// The number of a file's last line, if that is whole.
fn last(path: &Path) -> Option<u64> {
    let file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    let size = LONGEST.min(usize::try_from(length).ok()?);
    let mut end = vec![0; size];
    file.read_exact_at(&mut end, length - size as u64).ok()?;
    let before = end.strip_suffix(b"\n")?;
    let begin = memchr::memrchr(b'\n', before).map_or(0, |at| at + 1);
    number(end.get(begin..)?)
}

/// Fails unless every line of a file is there, whole and in order.
pub(super) fn check(path: &Path, lines: u64) -> anyhow::Result<()> {
    let mut expected = 0;
    read(&mut BufReader::with_capacity(1 << 20, File::open(path)?), &mut expected)?;
    ensure!(
        expected == lines,
        "{expected} of {lines} lines are in {}",
        path.display()
    );
    Ok(())
}

/// Reads lines that begin with number `expected`, and counts it up.
pub(super) fn read(from: &mut dyn BufRead, expected: &mut u64) -> anyhow::Result<()> {
    let mut line = Vec::with_capacity(LONGEST);
    while from.read_until(b'\n', &mut line)? > 0 {
        ensure!(
            line.ends_with(b"\n") && number(&line) == Some(*expected),
            "line {expected} is {}",
            String::from_utf8_lossy(&line)
        );
        *expected += 1;
        line.clear();
    }
    Ok(())
}

/// The number that a line of `lines.c` begins with, behind a timestamp or as the message of a record.
pub(super) fn number(line: &[u8]) -> Option<u64> {
    const MESSAGE: &[u8] = b"\"message\":\"";
    let begin = if line.starts_with(b"{") {
        memmem::find(line, MESSAGE)? + MESSAGE.len()
    } else {
        line.len().checked_sub(LINE)?
    };
    std::str::from_utf8(line.get(begin..begin + 10)?).ok()?.parse().ok()
}
