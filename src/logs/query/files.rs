//! The files of one log, and which of them a time is in.

use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use crate::logs::chain::{self, Identity, Part, Position};
use crate::logs::query::bisect::{earlier, later, line_start};
use crate::logs::query::lines::Lines;
use crate::logs::query::{Filter, MARGIN, Parser, Source, WINDOW, index};
use crate::logs::rotate::all_rotated;
use crate::model::time::WallTime;

/// Bytes from the beginning of a file in which a time is looked for.
const HEAD: u64 = 64 << 10;

/// How much smaller gzip makes a log, about.
const RATIO: u64 = 8;

/// A file of a log. Only the current one is held open.
#[derive(Debug)]
pub(super) struct Entry {
    name: PathBuf,
    gzip: bool,
    /// Of the file itself, not of what was compressed into it.
    identity: Identity,
    /// The last write.
    pub(super) modified: WallTime,
    /// The last write to the file before it.
    pub(super) before: Option<WallTime>,
    /// Bytes of its text, roughly.
    weight: u64,
    current: Option<Part>,
    /// Where its text ends; of a file that is written, where it ended.
    pub(super) end: u64,
}

/// All files, oldest first, and where the newest ended.
pub(super) fn list(path: &Path, unfinished: bool) -> io::Result<(Vec<Entry>, Option<Position>)> {
    let mut found: Vec<Entry> = Vec::new();
    let mut position = None;
    if let Some(file) = chain::open(path)? {
        let meta = file.metadata()?;
        let size = meta.len();
        let end = if unfinished { size } else { line_start(&file, size)? };
        let part = Part::new(file, false)?;
        position = Some(Position {
            identity: part.identity,
            offset: end,
        });
        found.push(Entry {
            name: path.to_owned(),
            gzip: false,
            identity: part.identity,
            modified: wall(&meta),
            before: None,
            weight: size,
            current: Some(part),
            end,
        });
    }
    for (name, gzip, size) in all_rotated(path) {
        // Gone a moment later: it was moved up, and comes again.
        let Ok(meta) = name.symlink_metadata() else { continue };
        let entry = Entry {
            identity: Identity::of(&meta),
            modified: wall(&meta),
            before: None,
            name,
            gzip,
            weight: if gzip { size.saturating_mul(RATIO) } else { size },
            current: None,
            end: u64::MAX,
        };
        let is_there = found.iter().rev().take(8).any(|known| known.is_also(&entry));
        if !is_there {
            found.push(entry);
        }
    }
    found.reverse();
    let mut before = None;
    for entry in &mut found {
        entry.before = before.replace(entry.modified);
    }
    Ok((found, position))
}

fn wall(meta: &std::fs::Metadata) -> WallTime {
    let since = meta.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    WallTime(
        since
            .and_then(|since| i64::try_from(since.as_millis()).ok())
            .unwrap_or(0),
    )
}

impl Entry {
    /// The other was seen later: the same file, moved up or compressed meanwhile.
    fn is_also(&self, other: &Self) -> bool {
        if self.identity == other.identity {
            return true;
        }
        if self.gzip || !other.gzip || self.modified != other.modified {
            return false;
        }
        let part = Part::open(&other.name, true).ok().flatten();
        part.is_some_and(|part| part.identity == self.identity)
    }

    fn is(&self, part: &Part) -> bool {
        part.identity == self.identity
            || part
                .file
                .metadata()
                .is_ok_and(|meta| Identity::of(&meta) == self.identity)
    }

    /// Opens it, whatever it is called by now; none if it was removed.
    pub(super) fn open(&self, path: &Path) -> io::Result<Option<Part>> {
        if let Some(part) = &self.current {
            return Ok(Some(Part {
                file: part.file.try_clone()?,
                ..*part
            }));
        }
        if let Some(part) = Part::open(&self.name, self.gzip)?.filter(|part| self.is(part)) {
            return Ok(Some(part));
        }
        chain::rotated_parts(path)
            .find(|part| part.as_ref().map_or(true, |part| self.is(part)))
            .transpose()
    }
}

/// The files, oldest first, that have to be read for what was written in the time of the filter.
pub(super) fn chosen(mut all: Vec<Entry>, source: &Source, parser: &Parser, filter: &Filter) -> Vec<Entry> {
    if let Some(until) = filter.until {
        let until = later(until, MARGIN + parser.ambiguity(until));
        let count = halves(&all, |at| began(&all, at, source, parser) < Some(until));
        // One more may begin with lines that belong to the last one of the file before.
        all.truncate(count + usize::from(parser.is_timed()));
    }
    if let Some(since) = filter.since {
        let since = earlier(since, parser.ambiguity(since));
        let begin = |at| began(&all, at, source, parser);
        let mut first = halves(&all, |at| begin(at) <= Some(since)).saturating_sub(1);
        // A clock that was set back.
        let mut room = WINDOW;
        while first > 0 && room > 0 && begin(first) > Some(earlier(since, MARGIN)) {
            first -= 1;
            room = room.saturating_sub(all.get(first).map_or(0, |entry| entry.weight));
        }
        let ended = |entry: &Entry| entry.modified < earlier(since, MARGIN);
        first += all.iter().skip(first).take_while(|entry| ended(entry)).count();
        all.drain(..first.min(all.len()));
    }
    all
}

/// How many from the first on are as they should be, if all behind those are not.
fn halves(all: &[Entry], mut is_so: impl FnMut(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, all.len());
    while low < high {
        let middle = low + (high - low) / 2;
        if is_so(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

/// When the first line of a file was written; by the last write to the one before where it does not say it. None, which
/// is before any time, for the first of all.
fn began(all: &[Entry], at: usize, source: &Source, parser: &Parser) -> Option<WallTime> {
    let said = all
        .get(at)
        .and_then(|entry| first_time(entry, source, parser).ok().flatten());
    said.or_else(|| {
        at.checked_sub(1)
            .and_then(|before| all.get(before))
            .map(|entry| entry.modified)
    })
}

fn first_time(entry: &Entry, source: &Source, parser: &Parser) -> io::Result<Option<WallTime>> {
    let Some(part) = entry.open(&source.path)? else {
        return Ok(None);
    };
    if !parser.is_timed() {
        let index = source.times.as_ref().and_then(|folder| index::open(folder, &part.file));
        return Ok(index.and_then(|index| index.time_at(0)));
    }
    let mut lines = Lines::new(part.text()?, 0, HEAD.min(entry.end));
    while let Some(line) = lines.next()? {
        if let Some(time) = parser.time(line.bytes) {
            return Ok(Some(time));
        }
    }
    Ok(None)
}
