//! The writer: what the pump tells when it has written, gathered, and brought to the disk now and then.
//!
//! An entry goes through three places: memory for at most a second, the [`recent`] file, and with others of its log
//! the log's index. Nothing is kept open. Whatever fails costs times only, and is tried again.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::logs::clock::monotonic;
use crate::logs::times::entry::{Entry, SIZE};
use crate::logs::times::index::{Header, Id, Index, id_of, remove};
use crate::logs::times::recent::{self, Recent};
use crate::logs::times::{SPAN, sweep};
use crate::model::duration::Millis;
use crate::model::time::{Moment, WallTime};
use crate::os::fsx;

/// What was written is known to readers after this at the latest.
const DELAY: Millis = Millis(1000);
/// So many entries are gathered before they go into the log's index.
const GATHERED: usize = 32;
/// A log that is silent for so long is forgotten.
const IDLE: Millis = Millis(60_000);
/// A folder that could not be used is left alone for so long.
const AGAIN: Millis = Millis(10_000);
/// An index may have a quarter of its log's size, and this more, which makes the times of small logs exact.
const ALLOWANCE: u64 = 32 << 10;
/// The indexes of files that are gone are looked for after so many rotations, and not more often than this.
const ROTATIONS: u32 = 64;
const BETWEEN: Millis = Millis(60_000);

/// All logs that were written lately. Without a folder it does nothing.
#[derive(Debug, Default)]
pub struct Book {
    folder: Option<PathBuf>,
    logs: HashMap<Id, Log>,
    turn: u64,
    /// Something changed at this time that is not in the recent file.
    dirty: Option<Moment>,
    retry: Moment,
    rotations: u32,
    swept: Moment,
}

#[derive(Debug, Default)]
struct Log {
    recent: Recent,
    last: Option<Entry>,
    /// The latest of all times.
    highest: WallTime,
    back: bool,
    heard: Moment,
}

impl Book {
    /// Begins to write below this folder, which is made if needed: what a former process had gathered goes into the
    /// indexes, and those of files that are gone are removed, on a thread of its own.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn begin(&mut self, now: Moment, folder: PathBuf) -> io::Result<()> {
        fsx::create_dir_private(&folder)?;
        let (turn, found) = recent::read(&folder);
        self.turn = turn + 1;
        for log in found {
            settle_former(&folder, &log);
        }
        self.swept = now;
        sweep::start(&folder);
        self.folder = Some(folder);
        self.dirty = Some(now);
        Ok(())
    }

    /// `len` bytes were written to this log from byte `from` on.
    pub fn wrote(&mut self, (now, wall): (Moment, WallTime), file: &File, id: Id, path: &Path, from: u64, len: u64) {
        let Some(folder) = &self.folder else { return };
        if len == 0 || self.retry > now {
            return;
        }
        let known = self.logs.get_mut(&id).filter(|_| from > 0);
        let log = match known {
            Some(log) => log,
            None => match load(folder, file, path, from) {
                Ok(log) => {
                    // Until then readers do not know that there is one.
                    self.dirty = Some(Moment(0));
                    self.logs.entry(id).insert_entry(log).into_mut()
                }
                Err(_) => {
                    self.retry = now.after(AGAIN);
                    self.logs.remove(&id);
                    return;
                }
            },
        };
        let cut = from < log.recent.end;
        if cut && log.cut(folder, from).is_err() {
            // Wrong is worse than none.
            remove(folder, id);
            self.logs.remove(&id);
            self.retry = now.after(AGAIN);
            return;
        }
        log.note(wall, from, len);
        log.heard = now;
        self.dirty.get_or_insert(now);
        if log.recent.pending.len() >= GATHERED
            && let Err(error) = settle(folder, log, false)
        {
            self.logs.remove(&id);
            // Somebody has removed this index; that is no reason to do without the others.
            if error.kind() != io::ErrorKind::NotFound {
                self.retry = now.after(AGAIN);
            }
        }
        if cut {
            // Readers would believe what was said of the bytes before.
            self.save();
        }
    }

    /// The log has got another name, and nothing is written to it any more.
    pub fn rotated(&mut self, now: Moment, id: Id) {
        self.close(id);
        self.rotations += 1;
        if self.rotations >= ROTATIONS && self.swept.after(BETWEEN) <= now {
            self.rotations = 0;
            self.swept = now;
            self.folder.as_deref().into_iter().for_each(sweep::start);
        }
    }

    /// Brings all that is known of a log into its index.
    fn close(&mut self, id: Id) {
        if let (Some(folder), Some(mut log)) = (&self.folder, self.logs.remove(&id)) {
            // What could not be written is what the index does not know.
            let _settled = settle(folder, &mut log, true);
            self.dirty.get_or_insert(log.heard);
        }
    }

    /// When to call [`Self::tick`]; none while nothing is written.
    #[must_use]
    pub fn due(&self) -> Option<Moment> {
        self.dirty.map(|since| since.after(DELAY))
    }

    /// Brings to the disk what has waited long enough.
    pub fn tick(&mut self, now: Moment) {
        if self.due().is_some_and(|due| due <= now) {
            let idle = |log: &Log| log.heard.after(IDLE) <= now;
            let silent: Vec<Id> = self
                .logs
                .iter()
                .filter(|(_, log)| idle(log))
                .map(|(id, _)| *id)
                .collect();
            silent.into_iter().for_each(|id| self.close(id));
            self.save();
        }
    }

    /// Brings to the disk what there is.
    pub fn save(&mut self) {
        let Some(folder) = self.folder.as_deref().filter(|_| self.dirty.is_some()) else {
            return;
        };
        self.turn += 1;
        // Next time it is tried again; until then readers see what was there before.
        let _written = recent::write(folder, self.turn, self.logs.values().map(|log| &log.recent));
        self.dirty = None;
    }
}

impl Log {
    /// Makes of a write an entry, if it needs one.
    fn note(&mut self, wall: WallTime, from: u64, len: u64) {
        // Somebody else has written meanwhile.
        self.recent.loose |= from > self.recent.end;
        let apart = self.last.map(|last| (wall.0 - last.time.0, wall < self.recent.latest));
        match apart {
            // Small steps back are those of a clock that is being corrected.
            Some((apart, _)) if apart.abs() < SPAN => {}
            Some((_, true)) if self.has_room(from, 2) => {
                let closing = self.recent.closing(self.back);
                self.push(closing);
                self.back = true;
                self.push_at(wall, from);
            }
            Some((_, false)) | None if self.has_room(from, 1) => self.push_at(wall, from),
            Some(_) | None => self.recent.loose = true,
        }
        self.recent.end = from + len;
        self.recent.latest = if self.last.is_some_and(|last| last.offset == from) {
            wall
        } else {
            wall.max(self.recent.latest)
        };
        self.highest = self.highest.max(wall);
    }

    fn has_room(&self, from: u64, entries: usize) -> bool {
        let entries = self.recent.count + (self.recent.pending.len() + entries) as u64;
        entries * SIZE as u64 <= from / 4 + ALLOWANCE
    }

    fn push_at(&mut self, time: WallTime, offset: u64) {
        self.back |= time < self.highest;
        let loose = std::mem::take(&mut self.recent.loose);
        self.push(Entry {
            time,
            offset,
            loose,
            back: self.back,
        });
    }

    fn push(&mut self, entry: Entry) {
        self.recent.loose = false;
        self.recent.pending.push(entry);
        self.last = Some(entry);
    }

    /// The log was cut back by its own writer.
    fn cut(&mut self, folder: &Path, to: u64) -> io::Result<()> {
        let whole = |entry: &Entry| entry.offset <= to;
        self.recent.pending.retain(whole);
        if self.recent.pending.is_empty() {
            let mut index = Index::open(folder, self.recent.id, true)
                .filter(|index| index.header.tag == self.recent.tag)
                .ok_or(io::ErrorKind::NotFound)?;
            let mut count = self.recent.count.min(index.count);
            while count > 0 && !index.read(count - 1, 1)?.iter().all(whole) {
                count -= 1;
            }
            index.put(count, &[])?;
            self.recent.count = count;
            self.last = index.last();
        } else {
            self.last = self.recent.pending.last().copied();
        }
        self.recent.end = to;
        self.recent.loose = true;
        Ok(())
    }
}

/// The index of a log that was not written lately; a new one if there is none, or it is not the log's.
fn load(folder: &Path, file: &File, path: &Path, from: u64) -> io::Result<Log> {
    let meta = file.metadata()?;
    let id = id_of(&meta);
    let found = Index::open(folder, id, false).filter(|index| {
        let fits = index.last().is_none_or(|last| last.offset <= from);
        from > 0 && fits && !index.header.is_packed() && index.header.is_of(file, &meta)
    });
    if let Some(index) = found {
        let last = index.last();
        let highest = last.map_or(WallTime(0), |last| last.time);
        let recent = Recent {
            tag: index.header.tag,
            id,
            count: index.count,
            end: last.map_or(from, |last| last.offset),
            latest: highest,
            ..Recent::default()
        };
        let back = last.is_some_and(|last| last.back);
        return Ok(Log {
            recent,
            last,
            highest,
            back,
            heard: Moment(0),
        });
    }
    let index = Index::create(folder, Header::of_log(monotonic().0, file, path)?)?;
    let recent = Recent {
        tag: index.header.tag,
        id,
        end: from,
        ..Recent::default()
    };
    Ok(Log {
        recent,
        ..Log::default()
    })
}

/// Writes what was gathered; `close`: and where it ends.
fn settle(folder: &Path, log: &mut Log, close: bool) -> io::Result<()> {
    if close && log.last.is_some_and(|last| last.offset < log.recent.end) {
        let closing = log.recent.closing(log.back);
        log.push(closing);
    }
    let recent = &mut log.recent;
    if recent.pending.is_empty() {
        return Ok(());
    }
    let mut index = Index::open(folder, recent.id, true)
        .filter(|index| index.header.tag == recent.tag && index.count >= recent.count)
        .ok_or(io::ErrorKind::NotFound)?;
    index.put(recent.count, &recent.pending)?;
    recent.count = index.count;
    recent.pending.clear();
    Ok(())
}

/// The same for what a former process had gathered.
fn settle_former(folder: &Path, recent: &Recent) {
    let Some(mut index) = Index::open(folder, recent.id, true) else {
        return;
    };
    // With more entries it had been settled.
    if index.header.tag != recent.tag
        || index.count < recent.count
        || index.count > recent.count + recent.pending.len() as u64
    {
        return;
    }
    let mut entries = recent.pending.clone();
    let last = entries.last().copied().or_else(|| index.last());
    if let Some(last) = last.filter(|last| last.offset < recent.end) {
        entries.push(recent.closing(last.back));
    }
    let _settled = index.put(recent.count, &entries);
}
