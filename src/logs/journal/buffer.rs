//! The one buffer that the pump reads into.

use super::Journal;
use crate::os::mapped::Mapped;

/// Memory of its own, or the journal's spool.
#[derive(Debug)]
pub enum Buffer {
    /// Gone with the process.
    Own(Box<[u8]>),
    /// The next process finds it.
    Spool(Mapped),
}

impl Buffer {
    /// What is in it.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Spool(mapped) => mapped.bytes(),
        }
    }

    /// At most `size` bytes of it, for something else than the journal's [`fill`](Journal::fill).
    #[must_use]
    pub fn lend(&mut self, journal: &mut Option<Journal>, size: usize) -> &mut [u8] {
        if let Some(journal) = journal {
            journal.lend_buffer();
        }
        let bytes = self.bytes_mut();
        let size = size.min(bytes.len());
        bytes.get_mut(..size).unwrap_or_default()
    }

    /// What is in it, to be changed.
    #[must_use]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Spool(mapped) => mapped.bytes_mut(),
        }
    }
}
