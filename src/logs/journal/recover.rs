//! What a killed process was doing is taken back or done to its end.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;

use crate::logs::journal::record::Record;
use crate::logs::journal::{Intent, Journal};
use crate::logs::moment;

impl Journal {
    /// Makes what the killed process had not written the held bytes of its stream.
    pub(super) fn recover(
        &mut self,
        found: &Record,
        read: impl Fn(&Self, u64, &mut [u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let written = !found.intents.is_empty() && !found.intents.iter().any(interrupted);
        if !written {
            found.intents.iter().for_each(take_back);
            moment::pass();
        }
        let covered = if written { found.covered } else { 0 };
        let start = found.start + covered.saturating_sub(found.held);
        let mut rest = vec![0; usize::try_from(self.end.saturating_sub(start)).unwrap_or_default()];
        read(self, start, &mut rest)?;
        let key = found.key;
        let held = if covered >= found.held { 0 } else { found.held };
        let kept = if held == 0 {
            self.replace(key, &rest)
        } else {
            self.extend(key, held, &rest)
        };
        if kept.is_err() {
            // A full disk: as good as in the file, until the next kill.
            let mut all = fs::read(self.held_path(key)).unwrap_or_default();
            all.truncate(usize::try_from(held).unwrap_or_default());
            all.extend(rest);
            self.recovered = Some((key, all));
        }
        Ok(())
    }
}

/// Whether the write ended before its end. A file that is gone, has another inode or is shorter than before was
/// rotated or emptied later, by somebody who waited for the write.
fn interrupted(intent: &Intent) -> bool {
    intent.path.metadata().is_ok_and(|meta| {
        let same = (meta.dev(), meta.ino()) == intent.id && meta.is_file();
        same && (intent.from..intent.from + intent.len).contains(&meta.len())
    })
}

/// Cuts off what a write added. Where that is impossible, its lines are there twice: better than not at all.
fn take_back(intent: &Intent) {
    let Ok(file) = OpenOptions::new().write(true).open(&intent.path) else {
        return;
    };
    let of = |meta: &fs::Metadata| (meta.dev(), meta.ino()) == intent.id && meta.is_file() && meta.len() > intent.from;
    if file.metadata().is_ok_and(|meta| of(&meta)) {
        let _cut = file.set_len(intent.from);
    }
}
