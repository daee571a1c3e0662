//! The last stderr lines of a run: a crash's last words.

use std::collections::VecDeque;

/// Lines kept at most.
pub const MAX_LINES: usize = 100;
/// Bytes kept at most, and bytes of text given out at most.
pub const MAX_BYTES: usize = 64 << 10;

/// The newest bytes of a stream, at most 100 lines and 64 KiB. No memory until the first byte, and then only as much
/// as is kept.
#[derive(Debug, Default)]
pub struct LastLines {
    bytes: VecDeque<u8>,
    /// Line ends in `bytes`.
    ends: usize,
    /// The oldest line lacks its beginning.
    cut: bool,
}

impl LastLines {
    /// Takes what the app wrote.
    pub fn push(&mut self, data: &[u8]) {
        let (from, ends) = newest(data);
        let data_kept = &data[from..];
        if from > 0 {
            self.bytes.clear();
            self.ends = 0;
            self.cut = data[from - 1] != b'\n';
        }
        let excess = (self.bytes.len() + data_kept.len()).saturating_sub(MAX_BYTES);
        self.drop_bytes(excess);
        while self.ends + ends > MAX_LINES && self.ends > 0 {
            self.drop_line();
        }
        let needed = self.bytes.len() + data_kept.len();
        if needed > self.bytes.capacity() {
            // Its own growth would go beyond what is ever kept.
            let target = needed.next_power_of_two().min(MAX_BYTES);
            self.bytes.reserve_exact(target - self.bytes.len());
        }
        self.bytes.extend(data_kept);
        self.ends += ends;
    }

    /// What is kept, without a line that lost its beginning unless that is all there is.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let (front, back) = self.bytes.as_slices();
        let mut all = [front, back].concat();
        if self.cut
            && let Some(end) = memchr::memchr(b'\n', &all).filter(|end| end + 1 < all.len())
        {
            all.drain(..=end);
        }
        all
    }

    /// The lines of [`Self::bytes`], oldest first, without their ends. An unterminated last line is one too.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let all = self.bytes();
        let mut lines: Vec<String> = all
            .split(|b| *b == b'\n')
            .map(|line| String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned())
            .collect();
        if all.last().is_none_or(|b| *b == b'\n') {
            lines.pop();
        }
        let excess = lines.len().saturating_sub(MAX_LINES);
        lines.drain(..excess);
        // What is no UTF-8 becomes longer by being shown.
        crate::model::words::newest(&lines, MAX_BYTES)
    }

    fn drop_bytes(&mut self, count: usize) {
        if count == 0 {
            return;
        }
        let mut last = 0;
        for byte in self.bytes.drain(..count.min(self.bytes.len())) {
            last = byte;
            self.ends -= usize::from(byte == b'\n');
        }
        self.cut = last != b'\n';
    }

    fn drop_line(&mut self) {
        let (front, back) = self.bytes.as_slices();
        let end = memchr::memchr(b'\n', front)
            .or_else(|| memchr::memchr(b'\n', back).map(|at| front.len() + at))
            .map_or(self.bytes.len(), |at| at + 1);
        self.drop_bytes(end);
    }
}

/// Where the part of `data` begins that is kept at most, and how many line ends it has.
pub(super) fn newest(data: &[u8]) -> (usize, usize) {
    let mut from = data.len().saturating_sub(MAX_BYTES);
    let mut ends = 0;
    // One end more than lines are kept ends the line before the oldest of them.
    for at in memchr::memrchr_iter(b'\n', &data[from..]) {
        if ends == MAX_LINES {
            from += at + 1;
            break;
        }
        ends += 1;
    }
    (from, ends)
}

#[cfg(test)]
mod tests {
    use super::{LastLines, MAX_BYTES, MAX_LINES};

    #[test]
    fn keeps_the_newest_lines() {
        let mut last = LastLines::default();
        assert!(last.lines().is_empty());
        for n in 0..1000 {
            last.push(format!("line {n}\n").as_bytes());
        }
        let lines = last.lines();
        assert_eq!(lines.len(), 100);
        assert_eq!((lines[0].as_str(), lines[99].as_str()), ("line 900", "line 999"));
        last.push(b"no end");
        assert_eq!(last.lines().last().map(String::as_str), Some("no end"));
    }

    #[test]
    fn is_bounded_by_bytes_too() {
        let mut last = LastLines::default();
        last.push(&vec![b'x'; 5 << 20]);
        assert_eq!(last.lines()[0].len(), MAX_BYTES);
        last.push(b"\nend \xff\r\n");
        assert_eq!(last.lines(), ["end \u{fffd}"]);
        for n in 0..200 {
            last.push(format!("{n}{}\n", "y".repeat(1000)).as_bytes());
        }
        assert!(last.lines().iter().map(String::len).sum::<usize>() <= MAX_BYTES);
        assert_eq!(last.lines().len(), MAX_BYTES / 1004);
        assert!(last.lines().last().is_some_and(|line| line.starts_with("199y")));
    }

    #[test]
    fn the_pieces_do_not_matter() {
        let text: Vec<u8> = (0..3000)
            .flat_map(|n: usize| {
                let mut line = format!("{n} {}", "z".repeat(n * 7 % 1500)).into_bytes();
                line.push(b'\n');
                line
            })
            .chain(*b"the end")
            .collect();
        let mut whole = LastLines::default();
        whole.push(&text);
        let expected: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
        for size in [1, 7, 100, 4096, 65_535, 65_536, 65_537, 262_144] {
            let mut last = LastLines::default();
            for piece in text.chunks(size) {
                last.push(piece);
                assert!(last.bytes.len() <= MAX_BYTES && last.ends <= MAX_LINES);
            }
            assert_eq!(last.lines(), whole.lines(), "in pieces of {size}");
        }
        let lines = whole.lines();
        assert!((40..100).contains(&lines.len()), "{}", lines.len());
        for (line, expected) in lines.iter().rev().zip(expected.iter().rev()) {
            assert_eq!(line.as_bytes(), *expected);
        }
    }

    #[test]
    fn memory_grows_with_what_is_kept_and_no_further() {
        let mut last = LastLines::default();
        last.push(b"one line\n");
        assert!(last.bytes.capacity() <= 64, "{}", last.bytes.capacity());
        for _ in 0..50 {
            last.push(&vec![b'x'; 40_000]);
            last.push(b"\n");
            last.push(&vec![b'y'; 1 << 20]);
        }
        assert!(last.bytes.capacity() <= MAX_BYTES, "{}", last.bytes.capacity());
    }

    #[test]
    fn what_is_no_text_does_not_become_longer_than_what_is_kept() {
        let mut last = LastLines::default();
        last.push(&vec![0xff; MAX_BYTES]);
        last.push(b"\nlast words\n");
        for _ in 0..3 {
            last.push(&vec![0xfe; 20_000]);
            last.push(b"\n");
        }
        let lines = last.lines();
        assert!(lines.iter().map(String::len).sum::<usize>() <= MAX_BYTES);
        assert!(lines.iter().all(|line| line.chars().all(|one| one == '\u{fffd}')));
    }
}
