//! The last stderr lines of a run: a crash's last words.

use std::collections::VecDeque;

/// Lines kept at most.
const MAX_LINES: usize = 100;
/// Bytes kept at most.
const MAX_BYTES: usize = 16 << 10;

/// The newest bytes of a stream, at most 100 lines and 16 KiB. Empty until the first byte.
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
        let newest = data.len().saturating_sub(MAX_BYTES);
        if newest > 0 {
            self.bytes.clear();
            self.ends = 0;
            self.cut = data[newest - 1] != b'\n';
        }
        let data = &data[newest..];
        self.bytes.extend(data);
        self.ends += memchr::memchr_iter(b'\n', data).count();
        let excess = self.bytes.len().saturating_sub(MAX_BYTES);
        if excess > 0 {
            let mut last = 0;
            for byte in self.bytes.drain(..excess) {
                last = byte;
                self.ends -= usize::from(byte == b'\n');
            }
            self.cut = last != b'\n';
        }
        while self.ends > MAX_LINES {
            self.drop_line();
        }
    }

    /// The lines, oldest first, without their ends. An unterminated last line is one too. A line that
    /// lost its beginning is shown only when it is all there is.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let (front, back) = self.bytes.as_slices();
        let all = [front, back].concat();
        let mut lines: Vec<String> = all
            .split(|b| *b == b'\n')
            .map(|line| String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned())
            .collect();
        if all.last().is_none_or(|b| *b == b'\n') {
            lines.pop();
        }
        if self.cut && lines.len() > 1 {
            lines.remove(0);
        }
        let excess = lines.len().saturating_sub(MAX_LINES);
        lines.drain(..excess);
        lines
    }

    fn drop_line(&mut self) {
        while let Some(byte) = self.bytes.pop_front() {
            if byte == b'\n' {
                self.ends -= 1;
                break;
            }
        }
        self.cut = false;
    }
}

#[cfg(test)]
mod tests {
    use super::{LastLines, MAX_BYTES};

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
        for n in 0..50 {
            last.push(format!("{n}{}\n", "y".repeat(1000)).as_bytes());
        }
        assert!(last.lines().iter().map(String::len).sum::<usize>() <= MAX_BYTES);
        assert!(last.lines().last().is_some_and(|line| line.starts_with("49y")));
    }
}
