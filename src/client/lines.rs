//! Cutting a stream of chunks into lines.

use std::ops::ControlFlow;

use crate::client::error::ClientError;

/// Keeps the beginning of a line until its end comes.
#[derive(Debug, Default)]
pub(crate) struct Lines(Vec<u8>);

impl Lines {
    /// Hands over every line that is complete, without its newline; empty ones are left out.
    ///
    /// # Errors
    /// If a line is longer than `limit` bytes.
    pub(crate) fn push(
        &mut self,
        mut chunk: &[u8],
        limit: usize,
        on_line: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, ClientError> {
        while let Some(end) = memchr::memchr(b'\n', chunk) {
            let (head, rest) = (&chunk[..end], &chunk[end + 1..]);
            if self.0.len() + head.len() > limit {
                return Err(ClientError::LineTooLong);
            }
            let flow = if self.0.is_empty() {
                give(head, on_line)
            } else {
                self.0.extend_from_slice(head);
                let flow = give(&self.0, on_line);
                self.0.clear();
                flow
            };
            if flow.is_break() {
                return Ok(flow);
            }
            chunk = rest;
        }
        if self.0.len() + chunk.len() > limit {
            return Err(ClientError::LineTooLong);
        }
        self.0.extend_from_slice(chunk);
        Ok(ControlFlow::Continue(()))
    }

    /// The last line, if it had no newline.
    pub(crate) fn finish(self, on_line: &mut dyn FnMut(&[u8]) -> ControlFlow<()>) {
        // Nothing comes after it, so it does not matter whether more is wanted.
        let _flow = give(&self.0, on_line);
    }
}

fn give(line: &[u8], on_line: &mut dyn FnMut(&[u8]) -> ControlFlow<()>) -> ControlFlow<()> {
    if line.is_empty() {
        ControlFlow::Continue(())
    } else {
        on_line(line)
    }
}

#[cfg(test)]
mod tests {
    use super::Lines;
    use crate::client::error::ClientError;
    use std::ops::ControlFlow;

    fn cut(chunks: &[&str], limit: usize) -> Result<Vec<String>, ClientError> {
        let mut lines = Lines::default();
        let mut got = Vec::new();
        let mut on_line = |line: &[u8]| {
            got.push(String::from_utf8(line.to_vec()).unwrap());
            ControlFlow::Continue(())
        };
        for chunk in chunks {
            let _flow = lines.push(chunk.as_bytes(), limit, &mut on_line)?;
        }
        lines.finish(&mut on_line);
        Ok(got)
    }

    #[test]
    fn lines_are_the_same_however_the_chunks_fall() {
        let text = "one\n\ntwo\r\nthr\u{e9}e\nfour";
        let whole = cut(&[text], 10).unwrap();
        assert_eq!(whole, ["one", "two\r", "thr\u{e9}e", "four"]);
        let bytes: Vec<String> = text.chars().map(String::from).collect();
        let bytes: Vec<&str> = bytes.iter().map(String::as_str).collect();
        assert_eq!(cut(&bytes, 10).unwrap(), whole);
    }

    #[test]
    fn a_line_has_a_limit_wherever_its_end_is() {
        assert_eq!(cut(&["12345\n"], 5).unwrap(), ["12345"]);
        assert!(cut(&["123456\n"], 5).is_err());
        assert!(cut(&["123", "456"], 5).is_err());
        assert!(cut(&["123", "456\n"], 5).is_err());
    }
}
