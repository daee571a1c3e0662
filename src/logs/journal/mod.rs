//! No byte of a log is lost or doubled when this process is killed, in whatever format it is written.
//!
//! A raw file of one stream needs no help while the kernel moves the bytes from pipe to file. All others have to be
//! looked at on the way, and those of a busy one are read as well where that is as fast. Their bytes go through three kinds of file in one folder, which outlive the process:
//!
//! ```text
//!          splice                 encode, write
//!  pipe ───────────► spool ─────────────────────────► log file(s)
//!                      │  ▲ begins with `<run>-<stream>` (held: the beginning of an
//!                      ▼  │ unfinished line, where lines are written as a whole)
//!                   held files       `record`: whose turn it is, where its bytes begin,
//!                                    which write is under way
//! ```
//!
//! The splice is the only step that takes bytes from a pipe, and the length of the spool tells exactly how many it
//! took. Everything that follows can be done again from the spool:
//!
//! | killed | the next process finds | and does |
//! |---|---|---|
//! | before the splice | nothing new in the spool | nothing |
//! | after it, or inside | its bytes, and whose they are | they become the stream's held bytes |
//! | inside the write to a log | a file of some length between before and after | cuts it back, then as above |
//! | after the write to one of two logs | the other is not complete | cuts both back, then as above |
//! | after the write | all files complete | keeps only what follows the written bytes |
//! | while a held file is written | a record that does not need what is being overwritten | writes it again |
//! | while the spool is emptied | a record that says that nothing is in it | nothing |
//! | while it does one of these things | the same | the same: each can be repeated |
//! | inside a rotation | no write under way: a log is rotated between two | see [`super::rotate`] |
//!
//! When the stream is attached again, its held bytes come before what is in the pipe.
//!
//! Where the file system allows it, all this happens in mapped memory instead of by system calls, see `area`. Nothing
//! else is different.
//!
//! The files are for one boot of the machine: a power cut may lose what the page cache had not written, here as in
//! the logs. Targets that cannot be cut back (a FIFO, a terminal) may see the last block twice. When the folder
//! cannot be written (a full disk) bytes are read as if there were no journal, and a kill may lose those.

mod area;
mod buffer;
mod held;
mod record;
mod recover;

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{SpliceFFlags, splice};
use rustix::fs::unlink;

use crate::logs::moment;
use crate::logs::outage::RETRY;
use crate::logs::sink::StreamKey;
use crate::model::duration::Millis;
use crate::model::time::Moment;
use crate::os::{fsx, poll, procfs};
use area::{Area, Reading};
use record::{MAX, Record, decode, encode};

pub use buffer::Buffer;
pub use record::Intent;

/// The spool is emptied when it is longer, and nobody's turn.
const LIMIT: u64 = if cfg!(test) { 300 } else { 256 << 10 };

/// Bytes that one read into mapped memory takes at most.
const FILL: usize = 256 << 10;

/// How often the lock is tried, 10 ms apart.
const DYING: u32 = 300;

/// What [`Journal::fill`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filled {
    /// These bytes of the buffer went from the pipe into the spool.
    Moved(Range<usize>),
    /// The spool is: end the turn and begin another.
    Full,
    /// The pipe is empty.
    Empty,
    /// The pipe is at its end.
    End,
    /// Not now: read the pipe without a journal.
    Cannot,
}

/// The journal of one pump, which alone uses its folder.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    boot: Arc<str>,
    record: File,
    spool: File,
    area: Option<Area>,
    /// The spool is the area's, and so is the record; otherwise that of the files. What is not in use is empty.
    mapped: bool,
    reading: Reading,
    /// Until the pump takes it.
    buffer: Option<Buffer>,
    /// The spool's length.
    end: u64,
    /// Whose turn it is, and where its input is now.
    turn: Option<Turn>,
    /// Held files of a former process that no stream has claimed yet.
    orphans: Vec<StreamKey>,
    /// What was recovered and could not be written to its held file.
    recovered: Option<(StreamKey, Vec<u8>)>,
    /// No new turn before this: the folder could not be written.
    retry: Moment,
    bytes: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Turn {
    key: StreamKey,
    held: u64,
    start: u64,
}

impl Journal {
    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Opens the journal in this folder, which is made if needed, and finishes or takes back what a killed process
    /// was doing. What it had read and not written waits for [`Self::claim`].
    ///
    /// # Errors
    /// The folder or a file in it cannot be used, or another process uses it.
    pub fn open(folder: &Path) -> io::Result<Self> {
        Self::open_as(folder, Some(FILL))
    }

    /// `fill`: in memory, if that is possible there, and so many bytes at once.
    pub(in crate::logs) fn open_as(folder: &Path, fill: Option<usize>) -> io::Result<Self> {
        fsx::create_dir_private(folder)?;
        let open = |name: &str| {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o600);
            options.open(folder.join(name))
        };
        let record = open("record")?;
        lock(&record)?;
        let spool = open("spool")?;
        let mut journal = Self {
            folder: folder.to_owned(),
            boot: procfs::boot_id(),
            end: spool.metadata()?.len(),
            record,
            spool,
            area: None,
            mapped: false,
            reading: Reading::default(),
            buffer: None,
            turn: None,
            orphans: Vec::new(),
            recovered: None,
            retry: Moment(0),
            bytes: Vec::new(),
        };
        let mut bytes = vec![0; MAX];
        let count = journal.record.read_at(&mut bytes, 0)?;
        match decode(bytes.get(..count).unwrap_or_default(), &journal.boot) {
            Some(Some(found)) => journal.recover(&found, |journal, at, rest| journal.spool.read_exact_at(rest, at))?,
            Some(None) => {}
            // Of another boot: those who wrote it are gone.
            None => journal.held_files()?.iter().for_each(|key| journal.forget(*key)),
        }
        journal.empty()?;
        if let Some(found) = Area::found(folder, &journal.boot)? {
            journal.end = found.end;
            let read = |_: &Self, at, rest: &mut [u8]| found.file.read_exact_at(rest, area::HEAD as u64 + at);
            journal.recover(&found.record, read)?;
        }
        let area = fill.and_then(|fill| Area::open(folder, fill).ok().flatten());
        if let Some((area, spool)) = area {
            (journal.area, journal.buffer) = (Some(area), Some(Buffer::Spool(spool)));
            journal.mapped = true;
            journal.empty()?;
        } else {
            Area::remove(folder)?;
        }
        journal.end = 0;
        journal.orphans = journal.held_files()?;
        let recovered = journal.recovered.as_ref().map(|(key, _)| *key);
        journal
            .orphans
            .extend(recovered.filter(|key| !journal.orphans.contains(key)));
        Ok(journal)
    }

    /// What [`Self::fill`] is to be given from now on, if there is something for it.
    pub const fn take_buffer(&mut self) -> Option<Buffer> {
        self.buffer.take()
    }

    /// Whether [`Self::fill`] is as fast as a plain read.
    #[must_use]
    pub const fn is_mapped(&self) -> bool {
        self.area.is_some()
    }

    /// The buffer is about to be used for something else.
    pub fn lend_buffer(&mut self) {
        if self.mapped {
            self.settle();
        }
    }

    /// Moves at most `max` bytes from a pipe into the spool and shows them in `buffer`. `held`: what the stream
    /// holds, of which the first `parked` bytes are in its held file.
    pub fn fill(
        &mut self,
        now: Moment,
        key: StreamKey,
        (held, parked): (&[u8], u64),
        pipe: &OwnedFd,
        (buffer, max): (&mut Buffer, usize),
    ) -> Filled {
        if !self.begin(now, key, held, parked) {
            return Filled::Cannot;
        }
        if self.mapped {
            return self.fill_area(now, pipe, buffer, max);
        }
        let buffer = buffer.bytes_mut();
        let max = max.min(buffer.len());
        let Ok(mut at) = i64::try_from(self.end) else {
            return Filled::Cannot;
        };
        let flags = SpliceFFlags::SPLICE_F_NONBLOCK;
        let spliced = splice(pipe, None, &self.spool, Some(&mut at), max, flags);
        moment::pass();
        match spliced {
            Ok(0) => Filled::End,
            Ok(moved) => {
                let from = self.end;
                self.end += moved as u64;
                let read = buffer
                    .get_mut(..moved)
                    .map(|bytes| self.spool.read_exact_at(bytes, from));
                match read {
                    Some(Ok(())) => Filled::Moved(0..moved),
                    // The page cache does not fail; if it does, a restart may still read them.
                    Some(Err(_)) | None => self.rest(now),
                }
            }
            Err(Errno::EAGAIN) => Filled::Empty,
            Err(Errno::EINTR) => Filled::Moved(0..0),
            Err(_) => self.rest(now),
        }
    }

    /// Bytes that were read past the spool are put into it, for a stream whose pipe must not be spliced. `held` as in
    /// [`Self::fill`]. A kill between the reading and this loses them.
    pub fn take(&mut self, now: Moment, key: StreamKey, (held, parked): (&[u8], u64), data: &[u8]) {
        if data.is_empty() {
            return;
        }
        if self.mapped {
            // A turn in the area has nothing there yet: nothing of such a stream is read into it.
            self.turn = None;
        }
        if !self.begin_in(now, key, (held, parked), false) {
            return;
        }
        moment::write(&self.spool, data, self.end);
        if self.spool.write_all_at(data, self.end).is_err() {
            self.rest(now);
            return;
        }
        self.end += data.len() as u64;
    }

    /// Ends the turn: what follows is read past the spool.
    fn rest(&mut self, now: Moment) -> Filled {
        self.retry = now.after(RETRY);
        self.turn = None;
        self.settle();
        Filled::Cannot
    }

    /// Begins a stream's turn, or goes on with it. False: the journal cannot be written now.
    pub fn begin(&mut self, now: Moment, key: StreamKey, held: &[u8], parked: u64) -> bool {
        self.begin_in(now, key, (held, parked), self.area.is_some())
    }

    fn begin_in(&mut self, now: Moment, key: StreamKey, held: (&[u8], u64), area: bool) -> bool {
        if self.turn.is_some_and(|turn| turn.key == key) {
            return true;
        }
        if self.retry > now {
            return false;
        }
        let begun = self.begin_turn(key, held, area);
        if begun.is_err() {
            self.retry = now.after(RETRY);
            self.turn = None;
        }
        begun.is_ok()
    }

    fn begin_turn(&mut self, key: StreamKey, (held, parked): (&[u8], u64), area: bool) -> io::Result<()> {
        // What could not be parked may be too much for the area.
        let mapped = area && held.len() as u64 == parked;
        if mapped != self.mapped || (!mapped && self.end > LIMIT) {
            self.empty()?;
        }
        self.mapped = mapped;
        let start = if mapped { 0 } else { self.end };
        self.end = start;
        let mut turn = Turn {
            key,
            held: parked,
            start,
        };
        if held.len() as u64 != parked {
            // It could not be parked. The spool is of him whom the record names, and so far that is another.
            self.put(None)?;
            moment::write(&self.spool, held, start);
            self.spool.write_all_at(held, start)?;
            self.end += held.len() as u64;
            turn.held = 0;
        }
        self.turn = Some(turn);
        self.note(&turn, 0, Vec::new())
    }

    /// Begins a turn with bytes from [`Self::claim`].
    pub fn begin_claimed(&mut self, now: Moment, key: StreamKey, bytes: &[u8]) {
        // Unlike all others, these may be many lines, and may be written in parts.
        self.begin(now, key, bytes, 0);
    }

    /// These writes are about to be made; together they bring the next `covered` bytes of the input into the logs.
    /// Without a turn there is nothing to remember.
    pub fn cover(&mut self, now: Moment, covered: usize, intents: Vec<Intent>) {
        let Some(turn) = self.turn else { return };
        if self.note(&turn, covered as u64, intents).is_err() {
            self.drop_record(now);
        }
    }

    /// The writes are made, or what they were to write is lost. `noted`: the record cannot tell.
    pub fn advance(&mut self, now: Moment, covered: usize, noted: bool) {
        let Some(mut turn) = self.turn else { return };
        let covered = covered as u64;
        // What is held is the beginning of one line, which is written at once.
        if let Some(new) = covered.checked_sub(turn.held) {
            turn.start += new;
            turn.held = 0;
        }
        self.turn = Some(turn);
        if !noted && self.note(&turn, 0, Vec::new()).is_err() {
            self.drop_record(now);
        }
    }

    /// Ends a turn: `rest` is what the stream still holds, `parked` what its held file had before. Returns what the
    /// file has now.
    pub fn park(&mut self, key: StreamKey, rest: &[u8], parked: u64) -> u64 {
        let turn = self.turn.take_if(|turn| turn.key == key);
        let held = turn.map_or(0, |turn| turn.held);
        let new = usize::try_from(held).ok().and_then(|held| rest.get(held..));
        if (rest.is_empty() && parked == 0) || (held > 0 && held == parked && new.is_some_and(<[u8]>::is_empty)) {
            return parked;
        }
        let kept = match new {
            Some(new) if held > 0 => self.extend(key, held, new),
            Some(_) | None => self.replace(key, rest),
        };
        if kept.is_ok() {
            return rest.len() as u64;
        }
        // What is in it must not be written a second time.
        self.forget(key);
        0
    }

    /// Nothing is under way: whatever happens to the files from now on was not done by a write that is recorded.
    pub fn settle(&mut self) {
        if self.turn.is_none() && self.put(None).is_err() {
            self.drop_record(Moment(0));
        }
    }

    /// First the record says that nothing is in the spool, then it is so.
    fn empty(&mut self) -> io::Result<()> {
        self.put(None)?;
        moment::pass();
        if !self.mapped {
            self.spool.set_len(0)?;
        }
        self.end = 0;
        Ok(())
    }

    fn note(&mut self, turn: &Turn, covered: u64, intents: Vec<Intent>) -> io::Result<()> {
        self.put(Some(&Record {
            key: turn.key,
            held: turn.held,
            start: turn.start,
            covered,
            intents,
        }))
    }

    fn put(&mut self, record: Option<&Record>) -> io::Result<()> {
        self.bytes.clear();
        encode(record, &self.boot, &mut self.bytes);
        if self.bytes.len() > MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if let Some(area) = self.area.as_mut().filter(|_| self.mapped) {
            area.put(self.end, self.reading, &self.bytes);
            return Ok(());
        }
        moment::pass();
        self.record.write_all_at(&self.bytes, 0)
    }

    /// A record that cannot be replaced must not be believed later.
    fn drop_record(&mut self, now: Moment) {
        self.retry = now.after(RETRY);
        self.turn = None;
        if self.mapped && self.put(None).is_ok() {
            return;
        }
        // Needs no space. What is left to try if it fails is the file's name, which the next process looks for.
        if self.record.set_len(0).is_err() {
            let _gone = unlink(self.folder.join("record"));
        }
    }
}

/// Waits for a process that was killed and whose threads are still inside a system call; not for one that lives.
fn lock(file: &File) -> io::Result<()> {
    for _ in 0..DYING {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => poll::pause(Millis(10)),
            other => return Ok(other?),
        }
    }
    Err(io::ErrorKind::WouldBlock.into())
}
