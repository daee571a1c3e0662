//! The one buffer that the pump reads into.

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

    /// What is in it, to be changed.
    #[must_use]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Spool(mapped) => mapped.bytes_mut(),
        }
    }
}
