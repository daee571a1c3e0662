//! The monotonic clock, for retries and silence; the wall clock is given by the caller.

use rustix::time::{ClockId, clock_gettime};

use crate::model::time::Moment;

/// Now.
#[must_use]
pub fn monotonic() -> Moment {
    let time = clock_gettime(ClockId::Monotonic);
    let nanos = |n: i64| u64::try_from(n).unwrap_or_default();
    Moment(nanos(time.tv_sec) * 1_000_000_000 + nanos(time.tv_nsec))
}
