//! What is lost of one stream between two turns of the pump, counted by whole lines.
//!
//! ```text
//!   written by the pump │        taken from the pipe meanwhile         │ still in the pipe
//!   … line 7, lin       │ e 8 ⏎ │ line 9 ⏎  line 10 ⏎ … line 90 ⏎ │ lin │ e 91 ⏎ …
//!                       │ head  │              lost               │ tail│
//! ```
//!
//! A line is never half in the log: the one that was under way when the loss began is ended by `head`, the one that
//! was under way when it ended begins with `tail`. Only of a line longer than [`KEPT`] nothing is kept: then
//! all of it is lost, and what is in the log of it already is taken back.

use memchr::{memchr, memchr_iter, memrchr};

/// How much of an unfinished line is kept, in bytes. There are two of them for each stream.
pub(super) const KEPT: usize = 16 << 10;

/// Loss in progress, or over.
#[derive(Debug, Default)]
pub(in crate::logs::pump) struct Gap {
    /// The end of the line that was under way.
    pub(in crate::logs::pump) head: Vec<u8>,
    headed: bool,
    /// The line that was under way is lost, too: `lines` counts it, `bytes` only what came from the pipe.
    pub(in crate::logs::pump) torn: bool,
    /// Lines lost.
    pub(in crate::logs::pump) lines: u64,
    /// Bytes of theirs.
    pub(in crate::logs::pump) bytes: u64,
    /// The beginning of the first line that is not lost.
    pub(in crate::logs::pump) tail: Vec<u8>,
    /// The rest of the last lost line is still to come.
    inside: bool,
}

impl Gap {
    /// Takes what comes next.
    pub(in crate::logs::pump) fn lose(&mut self, data: &[u8]) {
        let data = if self.headed { data } else { self.finish_head(data) };
        let data = self.finish_line(data);
        let Some(end) = memrchr(b'\n', data).map(|at| at + 1) else {
            return self.keep(data);
        };
        let (lines, rest) = data.split_at(end);
        self.lines += memchr_iter(b'\n', lines).count() as u64;
        self.bytes += (self.tail.len() + lines.len()) as u64;
        self.tail.clear();
        self.keep(rest);
    }

    /// The rest of the line that was under way when the loss began.
    fn finish_head<'a>(&mut self, data: &'a [u8]) -> &'a [u8] {
        let (end, rest) = data.split_at(memchr(b'\n', data).map_or(data.len(), |at| at + 1));
        if self.head.len() + end.len() <= KEPT {
            self.head.extend_from_slice(end);
            self.headed = end.last() == Some(&b'\n');
            return rest;
        }
        self.bytes += self.head.len() as u64;
        self.head = Vec::new();
        self.headed = true;
        self.torn = true;
        self.lines += 1;
        self.inside = true;
        data
    }

    /// Loses the rest of a line of which the beginning is lost; returns what follows it.
    pub(in crate::logs::pump) fn finish_line<'a>(&mut self, data: &'a [u8]) -> &'a [u8] {
        if !self.inside {
            return data;
        }
        let (end, rest) = data.split_at(memchr(b'\n', data).map_or(data.len(), |at| at + 1));
        self.bytes += end.len() as u64;
        self.inside = end.last() != Some(&b'\n');
        rest
    }

    fn keep(&mut self, partial: &[u8]) {
        if self.tail.len() + partial.len() <= KEPT {
            return self.tail.extend_from_slice(partial);
        }
        self.bytes += (self.tail.len() + partial.len()) as u64;
        self.lines += 1;
        self.tail = Vec::new();
        self.inside = true;
    }

    /// The rest of a lost line has to come first.
    pub(in crate::logs::pump) const fn is_inside(&self) -> bool {
        self.inside
    }

    /// Nothing was lost so far, and nothing is kept.
    pub(in crate::logs::pump) const fn is_empty(&self) -> bool {
        self.bytes == 0 && self.head.is_empty() && self.tail.is_empty()
    }

    /// Ends here, inside a lost line: the other one takes its rest, which counts as no line.
    pub(in crate::logs::pump) fn split(&mut self) -> Self {
        Self {
            headed: true,
            inside: std::mem::take(&mut self.inside),
            ..Self::default()
        }
    }

    /// What stands in the log where the lost lines would have been; none if none are lost.
    pub(in crate::logs::pump) fn marker(&self) -> Option<String> {
        (self.bytes > 0).then(|| format!("[clmgr: {} lines ({} bytes) dropped: {SLOW}]", self.lines, self.bytes))
    }
}

/// Why lines are dropped.
pub(in crate::logs::pump) const SLOW: &str = "the log could not be written fast enough";

#[cfg(test)]
mod tests {
    use super::{Gap, KEPT};
    use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, proptest};

    /// What the pump makes of a gap: the log's bytes after it, given those before it.
    fn bridge(mut log: Vec<u8>, mut gap: Gap, rest: &[u8]) -> (Vec<u8>, u64, u64) {
        let rest = gap.finish_line(rest).to_vec();
        if gap.torn {
            let start = memchr::memrchr(b'\n', &log).map_or(0, |at| at + 1);
            gap.bytes += (log.len() - start) as u64;
            log.truncate(start);
        }
        log.extend_from_slice(&gap.head);
        log.extend_from_slice(&gap.tail);
        log.extend_from_slice(&rest);
        (log, gap.lines, gap.bytes)
    }

    fn lines() -> impl Strategy<Value = Vec<usize>> {
        let sizes = proptest::prop_oneof![8 => 0..60usize, 2 => KEPT - 5..KEPT + 5, 1 => KEPT..3 * KEPT];
        proptest::collection::vec(sizes, 1..40)
    }

    proptest! {
        #[test]
        fn what_is_there_and_what_is_lost_is_everything(
            sizes in lines(), begin in any::<proptest::sample::Index>(), end in any::<proptest::sample::Index>(),
            piece in 1..3 * KEPT,
        ) {
            let text: Vec<u8> = sizes.iter().enumerate().flat_map(|(number, size)| {
                let mut line = format!("{number}:").into_bytes();
                line.extend(vec![b'x'; *size]);
                line.push(b'\n');
                line
            }).collect();
            let (one, two) = (begin.index(text.len()), end.index(text.len()));
            let (from, to) = (one.min(two), one.max(two));
            let mut gap = Gap::default();
            for piece in text[from..to].chunks(piece) {
                gap.lose(piece);
                prop_assert!(gap.head.len() <= KEPT && gap.tail.len() <= KEPT);
            }
            let (log, lost, bytes) = bridge(text[..from].to_vec(), gap, &text[to..]);
            let whole: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
            let kept: Vec<&[u8]> = log.split_inclusive(|byte| *byte == b'\n').collect();
            prop_assert!(kept.iter().all(|line| whole.contains(line)), "whole lines");
            prop_assert!(kept.is_sorted_by_key(|line| whole.iter().position(|other| other == line)));
            prop_assert_eq!(kept.len() as u64 + lost, whole.len() as u64);
            prop_assert_eq!(log.len() as u64 + bytes, text.len() as u64);
        }
    }

    #[test]
    fn says_what_is_lost() {
        let mut gap = Gap::default();
        gap.lose(b"rest\nne");
        assert_eq!(gap.marker(), None);
        gap.lose(b"xt\nand ");
        assert_eq!((&gap.head[..], &gap.tail[..]), (&b"rest\n"[..], &b"and "[..]));
        assert_eq!(
            gap.marker().unwrap(),
            "[clmgr: 1 lines (5 bytes) dropped: the log could not be written fast enough]"
        );
    }
}
