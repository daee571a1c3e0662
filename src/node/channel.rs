//! The framing of the channel. A line is at most [`MAX_LINE`] bytes; longer ones are dropped.

use memchr::memchr;

/// Longest message that is looked at.
pub const MAX_LINE: usize = 1 << 20;

/// One message as it goes over the wire.
#[must_use]
pub fn line(message: &serde_json::Value) -> Vec<u8> {
    let mut bytes = message.to_string().into_bytes();
    bytes.push(b'\n');
    bytes
}

/// One line without its end, as the value that it is; `None` for what is no JSON. Bun begins its own with byte 2.
#[must_use]
pub fn value(line: &[u8]) -> Option<serde_json::Value> {
    serde_json::from_slice(line.strip_prefix(&[2]).unwrap_or(line)).ok()
}

/// The complete lines at the beginning of `bytes`, and how many bytes they have with their ends.
#[must_use]
pub fn complete(bytes: &[u8]) -> (Vec<&[u8]>, usize) {
    let mut lines = Vec::new();
    let mut at = 0;
    while let Some(length) = bytes.get(at..).and_then(|rest| memchr(b'\n', rest)) {
        lines.extend(bytes.get(at..at + length));
        at += length + 1;
    }
    (lines, at)
}

/// The beginning of a line that was too long to be left where it was until its end came.
#[derive(Debug, Default)]
pub struct Carry {
    bytes: Vec<u8>,
    skipping: bool,
}

impl Carry {
    /// There is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty() && !self.skipping
    }

    /// Takes more of the line; past [`MAX_LINE`] the rest of it is passed over.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.skipping || self.bytes.len() + bytes.len() > MAX_LINE {
            self.bytes = Vec::new();
            self.skipping = true;
        } else {
            self.bytes.extend_from_slice(bytes);
        }
    }

    /// The end of the line has come: all of it, or nothing if it was too long.
    pub fn finish(&mut self, end: &[u8]) -> Vec<u8> {
        self.push(end);
        self.skipping = false;
        std::mem::take(&mut self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::{Carry, MAX_LINE, complete, line, value};
    use serde_json::json;

    #[test]
    fn lines_are_cut_where_they_end() {
        let (lines, length) = complete(b"\"ready\"\n{\"a\":1}\n\n{\"b\"");
        assert_eq!(lines, [&b"\"ready\""[..], b"{\"a\":1}", b""]);
        assert_eq!(length, 17);
        assert_eq!(complete(b"abc"), (vec![], 0));
        assert_eq!(value(b"\x02{\"b\":2}"), Some(json!({"b": 2})));
        assert_eq!((value(b"nonsense"), value(b"")), (None, None));
        assert_eq!(line(&json!("a\nb")), b"\"a\\nb\"\n");
    }

    #[test]
    fn a_long_line_is_put_together_and_an_endless_one_passed_over() {
        let mut carry = Carry::default();
        carry.push(b"\"ab");
        assert!(!carry.is_empty());
        assert_eq!(carry.finish(b"c\""), b"\"abc\"");
        assert!(carry.is_empty());
        for _ in 0..3 {
            carry.push(&vec![b'x'; MAX_LINE]);
        }
        assert!(!carry.is_empty() && carry.bytes.is_empty());
        assert_eq!(carry.finish(b"still the same line"), b"");
        assert_eq!(carry.finish(b"1"), b"1");
    }
}
