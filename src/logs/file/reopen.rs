//! A log that somebody else has renamed: what follows goes into the file that has the name now.

use std::fs::File;
use std::os::unix::fs::MetadataExt;

use crate::logs::file::{Context, LogFile, Tail};
use crate::logs::moment;

impl LogFile {
    /// Writes nothing more to the file that was renamed. The next byte opens what then has the name; the beginning of a
    /// line that is not complete is moved there at once.
    pub fn reopen(&mut self, ctx: &mut Context) {
        self.look();
        let id = self.path.metadata().map(|meta| (meta.dev(), meta.ino()));
        if self.regular && id.is_ok_and(|id| id == self.id) {
            // Nobody renamed it.
            return;
        }
        let (tail, end) = (self.tail, self.offset);
        let partial = self.unfinished_line();
        let Some(old) = self.file.take() else { return };
        if !partial.is_empty() {
            self.carry(ctx, &old, tail, end, &partial);
        }
    }

    /// Moves an unfinished line. First it is there twice: a kill in between costs nothing. If it cannot be moved, it
    /// stays where it is and goes on in the other file.
    fn carry(&mut self, ctx: &mut Context, old: &File, tail: Tail, end: u64, partial: &[u8]) {
        if self.open(ctx).is_err() || !self.regular || self.tail != Tail::Start {
            return;
        }
        let before = self.offset;
        if self.write(partial).is_err() {
            if let Some(file) = &self.file
                && file.set_len(before).is_ok()
            {
                self.offset = before;
            }
            return;
        }
        self.tail = tail;
        moment::pass();
        // Both have it, if this fails.
        let _cut = old.set_len(end - partial.len() as u64);
    }
}
