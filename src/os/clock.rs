//! The clocks. Nothing else in the program reads one; everything else is given `now`.

use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::model::time::{Moment, WallTime};

/// Now on `CLOCK_MONOTONIC`: the same scale in every process of one boot.
#[must_use]
pub fn monotonic() -> Moment {
    Moment(nanoseconds(clock_gettime(ClockId::Monotonic)))
}

/// Now on the wall clock.
#[must_use]
pub fn wall() -> WallTime {
    let now = clock_gettime(ClockId::Realtime);
    WallTime(now.tv_sec.saturating_mul(1000).saturating_add(now.tv_nsec / 1_000_000))
}

fn nanoseconds(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let rest = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
}

#[cfg(test)]
mod tests {
    use super::{monotonic, wall};

    #[test]
    fn clocks_are_plausible() {
        let first = monotonic();
        assert!(first.0 > 0);
        assert!(monotonic() >= first);
        // 2024-01-01, and a year that no test will see.
        assert!((1_704_067_200_000..32_503_680_000_000).contains(&wall().0));
    }
}
