//! Bytes in, whole lines out.

use memchr::memchr;

use crate::logs::tail::MAX_LINE;

/// Holds the unfinished line of one source.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    partial: Vec<u8>,
}

impl Splitter {
    /// Gives every line that ends in `data`, without its newline, and pieces of lines too long; with each, how many
    /// bytes of `data` are left behind it.
    pub(super) fn push(&mut self, mut data: &[u8], mut line: impl FnMut(Vec<u8>, usize)) {
        while !data.is_empty() {
            let (head, ended, after) = match memchr(b'\n', data) {
                Some(at) => (&data[..at], true, &data[at + 1..]),
                None => (data, false, &[][..]),
            };
            let mut head = head;
            while self.partial.len() + head.len() > MAX_LINE {
                let (now, later) = head.split_at(MAX_LINE - self.partial.len());
                self.partial.extend_from_slice(now);
                line(
                    std::mem::take(&mut self.partial),
                    later.len() + usize::from(ended) + after.len(),
                );
                head = later;
            }
            self.partial.extend_from_slice(head);
            if ended {
                line(std::mem::take(&mut self.partial), after.len());
            }
            data = after;
        }
    }

    /// The unfinished line, if there is one.
    pub(super) fn finish(&mut self) -> Option<Vec<u8>> {
        (!self.partial.is_empty()).then(|| std::mem::take(&mut self.partial))
    }

    /// Whether a line is unfinished.
    pub(super) const fn is_inside(&self) -> bool {
        !self.partial.is_empty()
    }
}
