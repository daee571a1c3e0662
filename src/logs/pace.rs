//! How fast rotated files are compressed while apps write much: slowly.
//!
//! A low priority alone is not enough. Where the kernel shares the processor between sessions first (autogroups, or
//! control groups), a thread of the lowest priority competes with an app in another session as an equal.

use crate::model::duration::Millis;
use crate::model::time::Moment;

/// What is compressed between two looks, in bytes; about 1 ms of work.
pub const PIECE: usize = 64 << 10;
/// Apps that write more than this in a millisecond, in bytes, need the processor: 8 MiB/s.
const MUCH: u64 = 8 << 10;
/// How long compression then rests after a piece. It goes on at more than 1 MiB/s, so that it ends one day.
const REST: Millis = Millis(50);

/// Watches what the pump moves.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    at: Moment,
    moved: u64,
}

impl Pace {
    /// Begins at `now`, when the pump has moved so many bytes.
    #[must_use]
    pub const fn new(now: Moment, moved: u64) -> Self {
        Self { at: now, moved }
    }

    /// How long to rest after a piece that ended at `now`, when the pump has moved so many bytes since it began.
    pub fn rest(&mut self, now: Moment, moved: u64) -> Option<Millis> {
        let apart = now.since(self.at).0.max(1);
        let much = moved.saturating_sub(self.moved) / apart > MUCH;
        *self = Self::new(now, moved);
        much.then_some(REST)
    }
}

#[cfg(test)]
mod tests {
    use super::{Pace, REST};
    use crate::model::duration::Millis;
    use crate::model::time::Moment;

    #[test]
    fn rests_while_apps_write_much() {
        let mut now = Moment(5_000_000_000);
        let mut pace = Pace::new(now, 70);
        let mut moved = 70;
        for (millis, bytes, rests) in [
            (2, 0, false),
            (2, 10_000, false),
            (2, 100_000, true),
            (50, 100_000, false),
            (50, 20_000_000, true),
            (0, 9_000, true),
            (1, 0, false),
        ] {
            now = now.after(Millis(millis));
            moved += bytes;
            let rest = pace.rest(now, moved);
            assert_eq!(rest, rests.then_some(REST), "{bytes} bytes in {millis} ms");
        }
    }
}
