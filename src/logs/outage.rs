//! A file that cannot be written: what is lost meanwhile, and the marker that says so.
//!
//! ```text
//!   writing ── ENOSPC, EDQUOT, EIO, cannot open … ──► outage ── at most one try a second ──► writing
//!      Notice::Lost                    output is read, counted, dropped      marker line, Notice::Resumed
//! ```
//!
//! In `drop` mode the app never waits for a full disk; in `block` mode lines have waited for [`PATIENCE`] before
//! an outage begins (see `pump/patience`). Loss begins at the start of a line wherever that is possible
//! (a partly written line is cut off again) and ends at the start of a line, so what remains are whole
//! lines. The one exception: of a line longer than 2 MiB that was already partly in the file the
//! first part stays, ended by the marker, and the line counts as lost.
//!
//! A target that is no regular file (a FIFO, a terminal) and would block counts as an outage too, in
//! both overflow modes, because the pump serves everybody. Regular files only get slow, and nobody can say
//! so beforehand: a slow disk fills the pipes in `block` mode; for `drop` see `pump/drops`.

use memchr::{memchr, memchr_iter};

use crate::model::duration::Millis;
use crate::model::time::Moment;

/// How long lines wait for room on a full disk before they are lost, where `log_overflow = "block"`.
pub const PATIENCE: Millis = Millis(10_000);

/// How long between two tries.
pub const RETRY: Millis = Millis(1000);

/// Loss in progress.
#[derive(Debug)]
pub struct Outage {
    /// Lines of which at least a part is lost.
    pub lines: u64,
    /// Bytes lost.
    pub bytes: u64,
    /// The error that began it.
    pub error: String,
    /// No try before this.
    pub retry: Moment,
    /// The last lost byte was no newline: the rest of that line is lost as well.
    pub inside_line: bool,
}

impl Outage {
    /// Begins with nothing lost.
    #[must_use]
    pub const fn new(error: String, now: Moment) -> Self {
        Self {
            lines: 0,
            bytes: 0,
            error,
            retry: now.after(RETRY),
            inside_line: false,
        }
    }

    /// Counts these bytes as lost.
    pub fn lose(&mut self, data: &[u8]) {
        let Some(last) = data.last() else { return };
        let continued = u64::from(self.inside_line);
        self.inside_line = *last != b'\n';
        self.lines += memchr_iter(b'\n', data).count() as u64 + u64::from(self.inside_line) - continued;
        self.bytes += data.len() as u64;
    }

    /// Loses the rest of a line that began in the outage; returns what follows it.
    pub fn finish_line<'a>(&mut self, data: &'a [u8]) -> &'a [u8] {
        if !self.inside_line {
            return data;
        }
        let (rest, after) = data.split_at(memchr(b'\n', data).map_or(data.len(), |at| at + 1));
        self.lose(rest);
        after
    }

    /// What stands in the log where the lost lines would have been.
    #[must_use]
    pub fn marker(&self) -> String {
        format!(
            "[clmgr: {} lines ({} bytes) lost: {}]",
            self.lines, self.bytes, self.error
        )
    }
}

#[cfg(test)]
mod tests {
    use super::Outage;
    use crate::model::time::Moment;

    #[test]
    fn counts_each_line_once() {
        let mut outage = Outage::new("No space left on device".into(), Moment(0));
        for piece in ["a\nb", "b", "", "b\n", "c\n"] {
            outage.lose(piece.as_bytes());
        }
        assert_eq!((outage.lines, outage.bytes, outage.inside_line), (3, 8, false));
        outage.lose(b"d");
        assert_eq!(outage.finish_line(b"dd\nnext\n"), b"next\n");
        assert_eq!(
            outage.marker(),
            "[clmgr: 4 lines (12 bytes) lost: No space left on device]"
        );
    }
}
