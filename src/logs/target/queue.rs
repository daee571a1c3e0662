//! Messages that wait for a target, in a file.
//!
//! `clmgr-q1`, the offset up to which all is sent (8 bytes), then for each message its length (4 bytes) and its bytes.
//! Numbers are little-endian. A message that a kill has cut is not there: its line is not known as dealt with.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use crate::logs::moment;

/// No message is added beyond this, in bytes.
pub(super) const LIMIT: u64 = if cfg!(test) { 64 << 10 } else { 1 << 20 };
/// Longer ones are no messages.
const LONGEST: u32 = 64 << 20;

const MAGIC: &[u8; 8] = b"clmgr-q1";
const FIRST: u64 = 16;

/// The messages of one target.
#[derive(Debug)]
pub(super) struct Queue {
    file: File,
    sent: u64,
    end: u64,
    /// As the file has it.
    noted: u64,
}

impl Queue {
    /// With what a former process left.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(path)?;
        let mut head = [0; 16];
        let known = file.read_exact_at(&mut head, 0).is_ok() && head.starts_with(MAGIC);
        let sent = match head.last_chunk() {
            Some(sent) if known => u64::from_le_bytes(*sent),
            Some(_) | None => FIRST,
        };
        let mut queue = Self {
            file,
            sent: FIRST,
            end: FIRST,
            noted: sent,
        };
        if known {
            while queue.end < LIMIT + u64::from(LONGEST)
                && let Some(length) = queue.length(queue.end)
            {
                queue.end += 4 + u64::from(length);
            }
            queue.sent = if (FIRST..=queue.end).contains(&sent) {
                sent
            } else {
                FIRST
            };
            // What was cut.
            queue.file.set_len(queue.end)?;
            // What is added from now on may reach beyond an offset that was wrong.
            queue.note();
        } else {
            queue.file.set_len(0)?;
            queue.file.write_all_at(MAGIC, 0)?;
            queue.file.write_all_at(&FIRST.to_le_bytes(), 8)?;
            queue.noted = FIRST;
        }
        Ok(queue)
    }

    /// Of the message here, if it is whole.
    fn length(&self, at: u64) -> Option<u32> {
        let mut bytes = [0; 4];
        self.file.read_exact_at(&mut bytes, at).ok()?;
        let length = u32::from_le_bytes(bytes);
        let size = self.file.metadata().ok()?.len();
        (length <= LONGEST && at + 4 + u64::from(length) <= size).then_some(length)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.sent >= self.end
    }

    /// Adds a message; false if there is no room for it.
    pub(super) fn push(&mut self, message: &[u8]) -> bool {
        let Some(length) = u32::try_from(message.len()).ok().filter(|length| *length <= LONGEST) else {
            return false;
        };
        if self.end >= LIMIT {
            return false;
        }
        let bytes = [&length.to_le_bytes(), message].concat();
        moment::write(&self.file, &bytes, self.end);
        if self.file.write_all_at(&bytes, self.end).is_err() {
            let _cut = self.file.set_len(self.end);
            return false;
        }
        self.end += bytes.len() as u64;
        true
    }

    /// The oldest message; false if there is none.
    pub(super) fn front(&self, message: &mut Vec<u8>) -> bool {
        message.clear();
        if self.is_empty() {
            return false;
        }
        let Some(length) = self.length(self.sent).and_then(|length| usize::try_from(length).ok()) else {
            return false;
        };
        message.resize(length, 0);
        self.file.read_exact_at(message, self.sent + 4).is_ok()
    }

    /// The oldest message, of this length, is sent.
    pub(super) fn pop(&mut self, length: usize) {
        moment::pass();
        self.sent += 4 + length as u64;
    }

    /// Nothing in it can be read: it is given up.
    pub(super) fn clear(&mut self) {
        self.sent = self.end;
        self.note();
    }

    /// Makes known to the next process what was sent.
    pub(super) fn note(&mut self) {
        if self.is_empty() && self.end > FIRST {
            // In this order: an offset behind the end means the beginning, where then is nothing.
            if self.file.set_len(FIRST).is_ok() {
                self.end = FIRST;
                self.sent = FIRST;
            }
        }
        if self.sent != self.noted && self.file.write_all_at(&self.sent.to_le_bytes(), 8).is_ok() {
            self.noted = self.sent;
        }
    }
}
