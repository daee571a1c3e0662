//! Readiness `log`: the first line that matches a pattern.

use regex::bytes::Regex;

/// A line longer than this is matched in pieces.
const MAX_LINE: usize = 64 << 10;

/// Looks for a pattern in the lines of a run's two streams until it is found.
#[derive(Debug)]
pub struct Watch {
    pattern: Regex,
    /// The unfinished line of each stream.
    partial: [Vec<u8>; 2],
}

impl Watch {
    /// Looks for `pattern`; `^` and `$` are the ends of the line.
    #[must_use]
    pub fn new(pattern: Regex) -> Self {
        Self {
            pattern,
            partial: [Vec::new(), Vec::new()],
        }
    }

    /// Takes output of stream 0 or 1; true when a line matches. An unfinished line is tried as well,
    /// so a prompt without a newline counts.
    pub fn found(&mut self, stream: usize, data: &[u8]) -> bool {
        let Some(partial) = self.partial.get_mut(stream) else {
            return false;
        };
        for piece in data.split_inclusive(|b| *b == b'\n') {
            let (line, ended) = match piece.strip_suffix(b"\n") {
                Some(line) => (line, true),
                None => (piece, false),
            };
            for part in line.chunks(MAX_LINE) {
                if partial.len() + part.len() > MAX_LINE {
                    partial.clear();
                }
                partial.extend_from_slice(part);
                if self.pattern.is_match(partial.strip_suffix(b"\r").unwrap_or(partial)) {
                    return true;
                }
            }
            if ended {
                if line.is_empty() && partial.is_empty() && self.pattern.is_match(b"") {
                    return true;
                }
                partial.clear();
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::Watch;
    use regex::bytes::Regex;

    #[test]
    fn finds_a_line_whatever_its_pieces() {
        let mut watch = Watch::new(Regex::new("^ready on \\d+").unwrap());
        assert!(!watch.found(0, b"not ready on 80\nrea"));
        assert!(!watch.found(1, b"dy on 80\n"), "streams are apart");
        assert!(!watch.found(0, b"dy on "));
        assert!(watch.found(0, b"8080\n"));
    }
}
