//! One entry: twelve bytes, which say from which byte on a log was written at which time.

use crate::model::time::WallTime;

/// Bytes of an entry on the disk.
pub(super) const SIZE: usize = 12;

/// Bits of the time's word that are no time.
const LOOSE: u64 = 1 << 47;
const BACK: u64 = 1 << 46;
/// As far as the times go: the year 4199. The offsets go to 256 TiB.
const TIMES: u64 = BACK - 1;
const OFFSETS: u64 = (1 << 48) - 1;

/// What was written before `offset` was written at `time` or earlier, and what follows at `time` or later, as far as
/// the clock goes forward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) time: WallTime,
    pub(super) offset: u64,
    /// What stands between the entry before and this one may have been written at any time between the two; without
    /// this, all of it was written within [`SPAN`](super::SPAN) of the entry before.
    pub(super) loose: bool,
    /// The clock was set back before this entry, or before one before it: the times are not in order.
    pub(super) back: bool,
}

impl Entry {
    pub(super) fn encode(self) -> [u8; SIZE] {
        let mut word = u64::try_from(self.time.0).unwrap_or_default().min(TIMES);
        word |= if self.loose { LOOSE } else { 0 } | if self.back { BACK } else { 0 };
        let mut bytes = [0; SIZE];
        let (time, offset) = bytes.split_at_mut(SIZE / 2);
        time.copy_from_slice(&word.to_le_bytes()[..SIZE / 2]);
        offset.copy_from_slice(&self.offset.min(OFFSETS).to_le_bytes()[..SIZE / 2]);
        bytes
    }

    pub(super) fn decode(bytes: [u8; SIZE]) -> Self {
        let word = |part: &[u8]| part.iter().rev().fold(0u64, |word, byte| word << 8 | u64::from(*byte));
        let (time, offset) = bytes.split_at(SIZE / 2);
        let (time, offset) = (word(time), word(offset));
        Self {
            time: WallTime(i64::try_from(time & TIMES).unwrap_or_default()),
            offset,
            loose: time & LOOSE != 0,
            back: time & BACK != 0,
        }
    }

    /// All whole entries in these bytes.
    pub(super) fn all(bytes: &[u8]) -> impl Iterator<Item = Self> + '_ {
        bytes.as_chunks::<SIZE>().0.iter().map(|chunk| Self::decode(*chunk))
    }
}

#[cfg(test)]
mod tests {
    use super::Entry;
    use crate::model::time::WallTime;

    #[test]
    fn comes_back_as_it_was() {
        for (time, offset) in [(0, 0), (1_795_000_000_123, (1 << 48) - 1), ((1 << 46) - 1, 7)] {
            for (loose, back) in [(false, false), (true, false), (false, true), (true, true)] {
                let time = WallTime(time);
                let entry = Entry {
                    time,
                    offset,
                    loose,
                    back,
                };
                assert_eq!(Entry::decode(entry.encode()), entry);
            }
        }
        // Before 1970 there were no logs.
        let entry = Entry {
            time: WallTime(-5),
            ..Entry::default()
        };
        assert_eq!(Entry::decode(entry.encode()), Entry::default());
    }
}
