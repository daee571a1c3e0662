//! Numbers that look random and follow from a seed (splitmix64).

use std::time::Duration;

/// A generator.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// The same seed gives the same numbers.
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// At least 0, less than `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// The time until the next of events that come at random, so many a second on average.
    #[expect(clippy::cast_precision_loss, reason = "52 bits of chance are enough")]
    pub(crate) fn gap(&mut self, rate: f64) -> Duration {
        let share = (self.next() >> 12) as f64 / (1_u64 << 52) as f64;
        Duration::from_secs_f64((-(1.0 - share).ln() / rate).min(1.0))
    }
}
