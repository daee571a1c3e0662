//! What a run of load found.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use crate::stats::quantile;

/// Counts and times of one run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// From the first connection to the last answer, in seconds.
    pub(crate) seconds: f64,
    /// The time of every answer, in seconds.
    pub(crate) times: Vec<f64>,
    /// Connections that broke, were refused, or brought something else than the answer.
    pub(crate) failed: u64,
    /// Answers by the pid in them and the client's address.
    pub(crate) by: BTreeMap<(u32, Option<Ipv4Addr>), u64>,
}

impl Tally {
    /// Answers per second.
    pub(crate) fn rate(&self) -> f64 {
        self.answers() / self.seconds
    }

    /// How many answers there were.
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    pub(crate) fn answers(&self) -> f64 {
        self.times.len() as f64
    }

    /// The time that 99 of 100 answers did not exceed, in seconds.
    pub(crate) fn p99(&self) -> f64 {
        quantile(&self.times, 0.99)
    }

    /// How many answers each process gave.
    pub(crate) fn workers(&self) -> BTreeMap<u32, u64> {
        let mut workers = BTreeMap::new();
        for ((pid, _), count) in &self.by {
            *workers.entry(*pid).or_default() += count;
        }
        workers
    }

    /// The share of answers that came from the process that answered the client's address most.
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    pub(crate) fn faithful(&self) -> f64 {
        let mut most: BTreeMap<Option<Ipv4Addr>, (u64, u64)> = BTreeMap::new();
        for ((_, from), count) in &self.by {
            let (best, all) = most.entry(*from).or_default();
            *best = (*best).max(*count);
            *all += count;
        }
        let (best, all) = most
            .values()
            .fold((0, 0), |(best, all), one| (best + one.0, all + one.1));
        best as f64 / all as f64
    }
}

/// The standard deviation of what each of `count` workers did as a share of the mean; those that did nothing are
/// among them.
#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
pub(crate) fn variation(workers: &BTreeMap<u32, u64>, count: usize) -> f64 {
    let mean = workers.values().sum::<u64>() as f64 / count as f64;
    let idle = count.saturating_sub(workers.len()) as f64;
    let squares: f64 = workers.values().map(|&done| (done as f64 - mean).powi(2)).sum();
    ((squares + idle * mean.powi(2)) / count as f64).sqrt() / mean
}
