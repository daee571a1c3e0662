//! Emptying a log.

use std::fs::OpenOptions;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::OFlag;

use crate::logs::file::{Context, LogFile, Tail, Writer};
use crate::logs::rotate::{Shelf, remove_from};

impl LogFile {
    /// Empties the file and removes its rotated files. The line that one of those who live (none: a writer from
    /// before the file was opened) is writing stays, so that its rest does not stand there alone.
    pub fn flush(&mut self, ctx: &mut Context, lives: impl Fn(Option<Writer>) -> bool) {
        if self.file.is_none() && self.outage.is_none() && self.path.exists() {
            // An error shows again with the next byte.
            let _opened = self.open(ctx);
        }
        self.look();
        let kept = match self.tail {
            Tail::Open(writer) | Tail::Unseen(writer) if lives(Some(writer)) => self.unfinished_line(),
            Tail::Found if lives(None) => self.unfinished_line(),
            Tail::Open(_) | Tail::Unseen(_) | Tail::Found | Tail::Start => Vec::new(),
        };
        flush(&self.path, ctx.compressor.shelf());
        let Some(file) = self.file.as_ref().filter(|_| self.regular) else {
            return;
        };
        self.offset = 0;
        if !kept.is_empty() && file.write_all_at(&kept, 0).is_ok() {
            self.offset = kept.len() as u64;
        } else {
            self.tail = Tail::Start;
        }
    }
}

/// Empties a log that nobody has open, and removes its rotated files. What cannot be changed stays.
pub fn flush(path: &Path, shelf: &Shelf) {
    let _names = shelf.lock();
    if let Ok(file) = OpenOptions::new()
        .write(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)
    {
        // Fails for what is no regular file, which has nothing to empty.
        let _emptied = file.set_len(0);
    }
    remove_from(path, 1);
}
