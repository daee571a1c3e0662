//! The reader.

use std::cell::RefCell;
use std::fs::File;
use std::path::Path;
use std::time::UNIX_EPOCH;

use crate::logs::times::SPAN;
use crate::logs::times::entry::Entry;
use crate::logs::times::index::{Index, id_of};
use crate::logs::times::recent;
use crate::model::time::WallTime;

/// So many entries are read at once.
const BLOCK: u64 = 256;
/// What was stamped within [`SPAN`] of an entry was written within this of it: the pump may be late.
const LATE: i64 = 2 * SPAN;

/// When the bytes of one file were written; as it was known when this was opened.
#[derive(Debug)]
pub struct Times {
    index: Index,
    /// So many entries of the index count; then these follow.
    count: u64,
    more: Vec<Entry>,
    /// Bytes from this one on are not accounted for.
    end: u64,
    /// What came after the last entry may be later than it.
    loose: bool,
    /// When the file was changed last.
    changed: WallTime,
    /// Number and entries of the block that was read last.
    block: RefCell<(u64, Vec<Entry>)>,
}

impl Times {
    /// The times of this file, which is a log, a rotated one or a compressed one; `folder` is the one that the daemon
    /// writes. None if there are none, or they are another file's, or damaged.
    #[must_use]
    pub fn open(folder: &Path, file: &File) -> Option<Self> {
        let meta = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
        let id = id_of(&meta);
        // Before the index: entries go from here to there.
        let recent = recent::read(folder).1.into_iter().find(|log| log.id == id);
        let index = Index::open(folder, id, false).filter(|index| index.header.is_of(file, &meta))?;
        let changed = meta.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        let mut times = Self {
            count: index.count,
            more: Vec::new(),
            end: 0,
            loose: true,
            changed: WallTime(i64::try_from(changed.as_millis()).ok()?),
            block: RefCell::new((0, index.read(0, 0).ok()?)),
            index,
        };
        let packed = times.index.header.is_packed();
        let recent = recent.filter(|recent| {
            let (count, more) = (times.index.count, recent.pending.len() as u64);
            // Else the index is newer.
            let last = recent.count + more.saturating_sub(1);
            recent.tag == times.index.header.tag && !packed && (recent.count..=last).contains(&count)
        });
        if let Some(recent) = recent {
            times.count = recent.count;
            times.index.count = recent.count;
            times.more = recent.pending;
            times.end = recent.end;
            times.loose = recent.loose;
        } else {
            times.end = times.last()?.offset;
        }
        let (first, last) = (times.get(0)?, times.last()?);
        // A hole in it, after a power cut; or the log was emptied, and has not been written since.
        let damaged = last.offset < first.offset || (times.size() > 1 && last.offset == 0);
        let beyond = !packed && times.end.max(last.offset) > meta.len();
        if damaged || beyond {
            return None;
        }
        if packed {
            times.end = u64::MAX;
        }
        Some(times)
    }

    /// All bytes before this one were written before `time`; 0 if nothing is known. Whatever was written at `time` or
    /// later stands behind it, also where the clock was set back; and little else, as a rule less than what is
    /// written in 0.1 s. It may lie inside a line.
    #[must_use]
    pub fn offset_at(&self, time: WallTime) -> u64 {
        let first = if self.last().is_some_and(|last| last.back) {
            (0..self.size()).find(|at| self.get(*at).is_none_or(|entry| entry.time >= time))
        } else {
            Some(self.partition(|entry| entry.time < time))
        };
        let first = first.unwrap_or(self.size());
        let Some(entry) = first.checked_sub(1).and_then(|at| self.get(at)) else {
            return 0;
        };
        let over = time.0 > entry.time.0.saturating_add(LATE);
        match self.get(first) {
            Some(next) if over && !next.loose => next.offset,
            None if over && !self.loose && self.end < u64::MAX => self.end,
            Some(_) | None => entry.offset,
        }
    }

    /// When the byte with this number was written; of a compressed log, the byte of its text. Right to 0.1 s, as a
    /// rule, and to a second for what was just written. None for what was there before anybody looked.
    #[must_use]
    pub fn time_at(&self, offset: u64) -> Option<WallTime> {
        let after = self.partition(|entry| entry.offset <= offset);
        let entry = self.get(after.checked_sub(1)?)?;
        let known = offset < self.end;
        Some(if known {
            entry.time
        } else {
            entry.time.max(self.changed)
        })
    }

    /// The time before which the byte with this number was written, as far as that is known: never before
    /// [`Self::time_at`], and what is known to be older than a time stands before it by this one, too.
    #[must_use]
    pub fn latest_at(&self, offset: u64) -> Option<WallTime> {
        let after = self.partition(|entry| entry.offset <= offset);
        let entry = self.get(after.checked_sub(1)?)?;
        if offset >= self.end {
            return Some(entry.time.max(self.changed));
        }
        let burst = WallTime(entry.time.0.saturating_add(SPAN));
        Some(match self.get(after) {
            Some(next) if next.loose => next.time.max(burst),
            None if self.loose => self.changed.max(burst),
            Some(_) | None => burst,
        })
    }

    fn size(&self) -> u64 {
        self.count + self.more.len() as u64
    }

    fn last(&self) -> Option<Entry> {
        self.get(self.size().checked_sub(1)?)
    }

    fn get(&self, at: u64) -> Option<Entry> {
        if let Some(more) = at.checked_sub(self.count) {
            return self.more.get(usize::try_from(more).ok()?).copied();
        }
        let (number, place) = (at / BLOCK, usize::try_from(at % BLOCK).ok()?);
        let mut block = self.block.borrow_mut();
        if block.0 != number || block.1.is_empty() {
            let most = usize::try_from(BLOCK).ok()?;
            *block = (number, self.index.read(number * BLOCK, most).ok()?);
        }
        block.1.get(place).copied()
    }

    /// The number of the first entry for which this is not so; it is so for all before it.
    fn partition(&self, is_before: impl Fn(&Entry) -> bool) -> u64 {
        let (mut low, mut high) = (0, self.size());
        // Who reads on asks for what is near the last answer.
        let block = self.block.borrow();
        if let (number, [first, .., last]) = (block.0, &block.1[..]) {
            let (start, end) = (number * BLOCK, number * BLOCK + block.1.len() as u64);
            (low, high) = match (is_before(first), is_before(last)) {
                (false, _) => (0, start),
                (true, false) => (start + 1, end - 1),
                (true, true) => (end, high),
            };
        }
        drop(block);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.get(middle) {
                Some(entry) if is_before(&entry) => low = middle + 1,
                Some(_) | None => high = middle,
            }
        }
        low
    }
}
