//! Clock, medians, and numbers for people.

use rustix::time::{ClockId, clock_gettime};

/// Monotonic time in nanoseconds: the clock that the C programs read.
pub(crate) fn now() -> i64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// Nanoseconds as seconds.
#[expect(
    clippy::cast_precision_loss,
    reason = "durations of a benchmark are far below 2^53 ns"
)]
pub(crate) fn to_seconds(nanoseconds: i64) -> f64 {
    nanoseconds as f64 / 1e9
}

/// How long something takes, in seconds, and what it returns.
pub(crate) fn timed<T>(work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<(f64, T)> {
    let begin = now();
    let result = work()?;
    Ok((to_seconds(now() - begin), result))
}

/// The value below which `share` (0 to 1) of the samples lie; 0 without samples.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an index between 0 and the number of samples"
)]
pub(crate) fn quantile(samples: &[f64], share: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1) as f64;
    sorted.get((last * share).ceil() as usize).copied().unwrap_or_default()
}

/// The middle one.
pub(crate) fn median(samples: &[f64]) -> f64 {
    quantile(samples, 0.5)
}

/// A duration for people.
pub(crate) fn seconds(value: f64) -> String {
    match value {
        v if v < 0.001 => format!("{:.0} µs", v * 1e6),
        v if v < 1.0 => format!("{:.2} ms", v * 1e3),
        v => format!("{v:.2} s"),
    }
}

/// A size for people.
pub(crate) fn bytes(value: f64) -> String {
    const MIB: f64 = 1_048_576.0;
    if value < MIB {
        format!("{:.1} KiB", value / 1024.0)
    } else {
        format!("{:.2} MiB", value / MIB)
    }
}
