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

/// Cuts a byte stream into messages.
#[derive(Debug, Default)]
pub struct Messages {
    pending: Vec<u8>,
    skipping: bool,
}

impl Messages {
    /// Takes what was read and gives the messages that are complete now. Lines that are no JSON are ignored.
    pub fn push(&mut self, mut bytes: &[u8]) -> Vec<serde_json::Value> {
        let mut found = Vec::new();
        while let Some(end) = memchr(b'\n', bytes) {
            if !self.skipping {
                self.pending.extend_from_slice(&bytes[..end]);
                let text = self.pending.strip_prefix(&[2]).unwrap_or(&self.pending);
                found.extend(serde_json::from_slice(text));
            }
            self.pending.clear();
            self.skipping = false;
            bytes = &bytes[end + 1..];
        }
        if self.pending.len() + bytes.len() > MAX_LINE {
            self.pending = Vec::new();
            self.skipping = true;
        } else if !self.skipping {
            self.pending.extend_from_slice(bytes);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_LINE, Messages};

    #[test]
    fn cuts_wherever_the_bytes_are_split() {
        let mut messages = Messages::default();
        assert!(messages.push(b"\"rea").is_empty());
        assert_eq!(
            messages.push(b"dy\"\n{\"a\":1}\nnonsense\n\x02{\"b\""),
            [serde_json::json!("ready"), serde_json::json!({"a": 1})]
        );
        assert_eq!(messages.push(b":2}\n"), [serde_json::json!({"b": 2})]);
    }

    #[test]
    fn drops_a_line_without_end() {
        let mut messages = Messages::default();
        for _ in 0..3 {
            assert!(messages.push(&vec![b'x'; MAX_LINE]).is_empty());
        }
        assert!(messages.push(b"still the same line\n").is_empty());
        assert_eq!(messages.push(b"1\n"), [serde_json::json!(1)]);
    }
}
