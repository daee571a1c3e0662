//! The journal as memory: where the folder's file system allows it, spool and record are a mapped file, and the
//! steps that would be system calls are stores.
//!
//! ```text
//!  64 KiB: which slot counts, slot 0, slot 1     then the spool, which is the pump's read buffer
//! ```
//!
//! A record is written into the slot that does not count, then one store makes it count. The bytes of a pipe are
//! read straight into the spool. That leaves no trace of how many there were, so it is settled before: the record
//! names the number, which is never more than the pipe has, and all of them come or none. Which of the two it was
//! shows at the first one: it was looked at with `tee`, and another value was put in its place.

use std::fs::{File, OpenOptions};
use std::io::{self, PipeReader, PipeWriter, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{SpliceFFlags, tee};
use rustix::fs::unlink;
use rustix::io::ioctl_fionread;

use super::record::{MAX, Record, decode};
use super::{Buffer, Filled, Journal, Turn};
use crate::logs::moment;
use crate::model::time::Moment;
use crate::os::mapped::{self, Mapped};

/// The file's name.
const NAME: &str = "area";
/// What stands before the spool.
pub(super) const HEAD: usize = 64 << 10;
/// Bytes of a slot.
const SLOT: usize = 8 << 10;
/// What stands in a slot before the record: three numbers.
const STATE: usize = 24;
/// The beginning of a line that stays in the spool until its end comes, as a part of what one read may take.
const TAIL: usize = 4;

/// A read that is under way.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reading {
    /// How many bytes it brings.
    count: usize,
    /// What stands in the place of the first until then.
    mark: u8,
}

/// The mapped record, and what is needed to read.
#[derive(Debug)]
pub(super) struct Area {
    head: Mapped,
    /// The one that counts.
    slot: usize,
    /// Bytes that one read takes at most.
    fill: usize,
    /// For [`Self::peek`].
    glance: (PipeReader, PipeWriter),
}

/// What a killed process has left in an area.
pub(super) struct Found {
    pub(super) record: Record,
    /// Where its spool ends.
    pub(super) end: u64,
    pub(super) file: File,
}

impl Area {
    /// None: this folder's files cannot be mapped.
    pub(super) fn open(folder: &Path, fill: usize) -> io::Result<Option<(Self, Mapped)>> {
        if !mapped::is_steady(folder) {
            return Ok(None);
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(folder.join(NAME))?;
        let head = Mapped::new(&file, 0, HEAD)?;
        let spool = Mapped::new(&file, HEAD as u64, fill + fill / TAIL)?;
        let area = Self {
            slot: usize::from(head.bytes().first().is_some_and(|slot| *slot != 0)),
            head,
            fill,
            glance: io::pipe()?,
        };
        Ok(Some((area, spool)))
    }

    /// What a killed process has left there; of this boot.
    pub(super) fn found(folder: &Path, boot: &str) -> io::Result<Option<Found>> {
        let file = match File::open(folder.join(NAME)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let mut slot = [0; STATE + MAX];
        if file.read_at(&mut slot[..8], 0)? < 8 {
            return Ok(None);
        }
        let at = place(usize::from(slot[0] != 0)) as u64;
        let size = file.read_at(&mut slot, at)?;
        let Some((state, record)) = slot.get(..size).and_then(<[u8]>::split_first_chunk::<STATE>) else {
            return Ok(None);
        };
        let Some(Some(record)) = decode(record, boot) else {
            return Ok(None);
        };
        let (numbers, _) = state.as_chunks::<8>();
        let [end, count, mark] = [0, 1, 2].map(|at| numbers.get(at).map_or(0, |n| u64::from_le_bytes(*n)));
        let mut end = end;
        if count > 0 {
            let mut first = [0];
            file.read_exact_at(&mut first, HEAD as u64 + end)?;
            if u64::from(first[0]) != mark {
                end += count;
            }
        }
        Ok(Some(Found { record, end, file }))
    }

    /// What was in it has been recovered, and it is not used any more.
    pub(super) fn remove(folder: &Path) -> io::Result<()> {
        match unlink(folder.join(NAME)) {
            Err(rustix::io::Errno::NOENT) | Ok(()) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes this the record.
    pub(super) fn put(&mut self, end: u64, reading: Reading, record: &[u8]) {
        let next = 1 - self.slot;
        moment::pass();
        let state = [end, reading.count as u64, u64::from(reading.mark)].map(u64::to_le_bytes);
        let at = place(next);
        if let Some(slot) = self.head.bytes_mut().get_mut(at..at + STATE + record.len()) {
            let (numbers, rest) = slot.split_at_mut(STATE);
            numbers.copy_from_slice(state.as_flattened());
            rest.copy_from_slice(record);
        }
        moment::pass();
        self.head.publish(next as u64);
        self.slot = next;
    }

    /// The first byte of what is in the pipe. None: it is at its end.
    fn peek(&mut self, pipe: &OwnedFd) -> Result<Option<u8>, Errno> {
        let (reader, writer) = &mut self.glance;
        if tee(pipe, writer, 1, SpliceFFlags::SPLICE_F_NONBLOCK)? == 0 {
            return Ok(None);
        }
        let mut first = [0];
        reader.read_exact(&mut first).map_err(|_| Errno::EIO)?;
        Ok(Some(first[0]))
    }
}

const fn place(slot: usize) -> usize {
    SLOT * (1 + slot)
}

impl Journal {
    /// [`Self::fill`] in a turn that has begun in the area.
    pub(super) fn fill_area(&mut self, now: Moment, pipe: &OwnedFd, buffer: &mut Buffer, max: usize) -> Filled {
        let (Some(mut turn), Some(area)) = (self.turn, &mut self.area) else {
            return Filled::Cannot;
        };
        let peeked = area.peek(pipe);
        moment::pass();
        let first = match peeked {
            Ok(Some(first)) => first,
            Ok(None) => return Filled::End,
            Err(Errno::EAGAIN) => return Filled::Empty,
            Err(Errno::EINTR) => return Filled::Moved(0..0),
            Err(_) => return self.rest(now),
        };
        let spool = buffer.bytes_mut();
        let fill = area.fill;
        let Some((at, moved)) = make_place(&turn, self.end, spool, fill / TAIL) else {
            return Filled::Full;
        };
        turn.start = moved;
        let there = ioctl_fionread(pipe).unwrap_or_default();
        let count = usize::try_from(there).unwrap_or(max).min(max).min(fill);
        let count = count.min(spool.len().saturating_sub(at));
        let Some(target) = spool.get_mut(at..at + count).filter(|target| !target.is_empty()) else {
            return self.rest(now);
        };
        let mark = !first;
        target.iter_mut().take(1).for_each(|byte| *byte = mark);
        moment::pass();
        self.turn = Some(turn);
        self.end = at as u64;
        self.reading = Reading { count, mark };
        let noted = self.note(&turn, 0, Vec::new());
        let read = match noted {
            Ok(()) => nix::unistd::read(pipe, target),
            Err(_) => Err(Errno::EIO),
        };
        moment::pass();
        self.reading = Reading::default();
        let got = read.unwrap_or_default();
        self.end += got as u64;
        if got == count {
            return Filled::Moved(at..at + count);
        }
        // Nobody else reads this pipe, so this is a failure of the machine.
        if self.note(&turn, 0, Vec::new()).is_err() || got == 0 {
            return self.rest(now);
        }
        Filled::Moved(at..at + got)
    }
}

/// Where in the spool the next bytes go, and where the input that is left begins then. At the beginning if possible:
/// that memory is in the processor's cache. What the record needs is not touched. None: there is no place.
fn make_place(turn: &Turn, end: u64, spool: &mut [u8], room: usize) -> Option<(usize, u64)> {
    let (start, end) = (usize::try_from(turn.start).ok()?, usize::try_from(end).ok()?);
    let tail = end.checked_sub(start)?;
    if tail < start && tail <= room {
        spool.copy_within(start..end, 0);
        moment::pass();
        return Some((tail, 0));
    }
    (end + room <= spool.len()).then_some((end, turn.start))
}
