//! Lines of a text, one after the other, in one buffer.

use std::io::{self, Read};

use memchr::memchr;

use crate::logs::tail::MAX_LINE;

/// Bytes read at a time.
const BLOCK: usize = 64 << 10;

/// A line, or a piece of one that is too long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece<'a> {
    /// Bytes of the text before it.
    pub(super) offset: u64,
    /// Without its newline.
    pub(super) bytes: &'a [u8],
    /// Its beginning came before.
    pub(super) continues: bool,
    /// Bytes of the text before what follows it.
    pub(super) end: u64,
}

/// Reads lines.
pub(super) struct Lines {
    from: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    start: usize,
    filled: usize,
    /// Bytes of the text before `start`.
    offset: u64,
    /// Where the text ends for us.
    end: u64,
    ended: bool,
    continues: bool,
}

impl Lines {
    /// Of a text that is read from byte `offset` to byte `end`, or its own end.
    pub(super) fn new(from: Box<dyn Read + Send>, offset: u64, end: u64) -> Self {
        Self {
            from,
            buffer: Vec::new(),
            start: 0,
            filled: 0,
            offset,
            end,
            ended: false,
            continues: false,
        }
    }

    /// The next one.
    pub(super) fn next(&mut self) -> io::Result<Option<Piece<'_>>> {
        let mut searched = 0;
        loop {
            let rest = self.buffer.get(self.start + searched..self.filled).unwrap_or_default();
            let have = searched + rest.len();
            let found = memchr(b'\n', rest).map(|at| searched + at);
            match found {
                Some(len) if len <= MAX_LINE => return Ok(Some(self.take(len, true))),
                _ if have > MAX_LINE => return Ok(Some(self.take(MAX_LINE, false))),
                _ if self.ended && have > 0 => return Ok(Some(self.take(have, false))),
                _ if self.ended => return Ok(None),
                _ => {}
            }
            searched = have;
            self.fill()?;
        }
    }

    fn take(&mut self, len: usize, newline: bool) -> Piece<'_> {
        let (start, offset, continues) = (self.start, self.offset, self.continues);
        self.start += len + usize::from(newline);
        self.offset += (len + usize::from(newline)) as u64;
        self.continues = !newline;
        Piece {
            offset,
            bytes: self.buffer.get(start..start + len).unwrap_or_default(),
            continues,
            end: self.offset,
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.filled, 0);
            self.filled -= self.start;
            self.start = 0;
        }
        if self.buffer.len() < self.filled + BLOCK {
            self.buffer.resize(self.filled + BLOCK, 0);
        }
        let left = self.end.saturating_sub(self.offset + self.filled as u64);
        let most = usize::try_from(left).unwrap_or(BLOCK).min(BLOCK);
        let room = self.buffer.get_mut(self.filled..self.filled + most).unwrap_or_default();
        match self.from.read(room) {
            Ok(0) => self.ended = true,
            Ok(count) => self.filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // A damaged compressed file still has the lines before the damage.
            Err(error) if is_damage(&error) => self.ended = true,
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// What a decoder says of a file that is cut or damaged.
pub(super) fn is_damage(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | InvalidInput | InvalidData)
}

impl std::fmt::Debug for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lines")
            .field("offset", &self.offset)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::Lines;
    use crate::logs::tail::MAX_LINE;

    fn all(text: &[u8], end: u64) -> Vec<(u64, usize, bool)> {
        let mut lines = Lines::new(Box::new(std::io::Cursor::new(text.to_vec())), 0, end);
        let mut found = Vec::new();
        while let Some(piece) = lines.next().unwrap() {
            found.push((piece.offset, piece.bytes.len(), piece.continues));
        }
        found
    }

    #[test]
    fn whole_lines_and_pieces_of_long_ones() {
        assert_eq!(all(b"", 9), []);
        assert_eq!(all(b"\n\na", 9), [(0, 0, false), (1, 0, false), (2, 1, false)]);
        assert_eq!(all(b"one\ntwo\n", 5), [(0, 3, false), (4, 1, false)]);
        let mut long = vec![b'x'; MAX_LINE];
        long.extend_from_slice(b"\nend\n");
        let most = MAX_LINE as u64;
        assert_eq!(all(&long, u64::MAX), [(0, MAX_LINE, false), (most + 1, 3, false)]);
        long.insert(0, b'x');
        let pieces = [(0, MAX_LINE, false), (most, 1, true), (most + 2, 3, false)];
        assert_eq!(all(&long, u64::MAX), pieces);
    }
}
