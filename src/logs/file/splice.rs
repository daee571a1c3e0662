//! The fast way of raw bytes: from pipe to file without a look at them.

use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use nix::fcntl::{SpliceFFlags, splice};

use crate::logs::file::{Context, LogFile, Tail, Writer};

/// Splicing stops this long before the size limit; the rest is read, so that the cut is after a line.
const MARGIN: u64 = 128 << 10;

/// What a splice did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spliced {
    /// This many bytes went from pipe to file.
    Moved(usize),
    /// The pipe is empty.
    Empty,
    /// The pipe is at its end.
    End,
    /// Not now: read and [`LogFile::append`].
    Cannot,
}

impl LogFile {
    /// Moves at most `max` bytes from a pipe without looking at them. Not the first: they open the file.
    pub fn splice_from(
        &mut self,
        ctx: &mut Context,
        writer: Writer,
        whole: bool,
        pipe: BorrowedFd<'_>,
        max: usize,
    ) -> Spliced {
        if self.outage.is_some() || !self.spliceable || self.file.is_none() || self.check(ctx).is_err() {
            return Spliced::Cannot;
        }
        let mine = match self.tail {
            Tail::Start => true,
            Tail::Found => !whole,
            Tail::Open(last) | Tail::Unseen(last) => last == writer,
        };
        if !mine || !self.regular || self.overdue(ctx) {
            return Spliced::Cannot;
        }
        let max = match self.rotation.size {
            Some(limit) => {
                let room = limit.0.saturating_sub(MARGIN).saturating_sub(self.offset);
                max.min(usize::try_from(room).unwrap_or(max))
            }
            None => max,
        };
        let (Some(file), Ok(mut offset)) = (&self.file, i64::try_from(self.offset)) else {
            return Spliced::Cannot;
        };
        if max == 0 {
            return Spliced::Cannot;
        }
        let flags = SpliceFFlags::SPLICE_F_NONBLOCK | SpliceFFlags::SPLICE_F_MOVE;
        match splice(pipe, None, file, Some(&mut offset), max, flags) {
            Ok(0) => Spliced::End,
            Ok(moved) => {
                self.offset += moved as u64;
                self.note(ctx, self.offset - moved as u64);
                self.tail = Tail::Unseen(writer);
                Spliced::Moved(moved)
            }
            Err(Errno::EAGAIN) => Spliced::Empty,
            Err(Errno::EINVAL | Errno::ENOSYS) => {
                self.spliceable = false;
                Spliced::Cannot
            }
            Err(_) => Spliced::Cannot,
        }
    }
}
