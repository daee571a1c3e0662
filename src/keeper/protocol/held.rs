//! Which descriptors a child has.

use minicbor::{CborLen, Decode, Encode};

/// A set of a child's descriptors. Wherever they are attached to a message, they come in the order of the
/// constants here, those that are not in the set left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode, CborLen)]
#[cbor(transparent)]
pub struct Held(#[n(0)] pub u8);

impl Held {
    /// Refers to the process.
    pub const PIDFD: Self = Self(1);
    /// Read end of its standard output (and error, if merged).
    pub const OUT: Self = Self(2);
    /// Read end of its standard error.
    pub const ERR: Self = Self(4);
    /// Write end of its standard input.
    pub const STDIN: Self = Self(8);
    /// Our end of its channel.
    pub const CHANNEL: Self = Self(16);

    /// All, in the order in which they are attached.
    pub const ORDER: [Self; 5] = [Self::PIDFD, Self::OUT, Self::ERR, Self::STDIN, Self::CHANNEL];

    /// True if all of `other` is in this set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// How many descriptors that is. Bits without a meaning count none.
    #[must_use]
    pub fn count(self) -> usize {
        Self::ORDER.into_iter().filter(|one| self.has(*one)).count()
    }
}
