//! One contestant under load, and what it costs it.

use std::time::Duration;

use super::WORKERS;
use super::side::Side;
use crate::load::{Pattern, variation};
use crate::proc;

/// What was found in one run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// Answers per second.
    pub(crate) rate: f64,
    /// In seconds.
    pub(crate) p99: f64,
    /// CPU time of all processes of the contestant for one answer, in seconds.
    pub(crate) cpu: f64,
    /// That of those above the workers.
    pub(crate) above: f64,
    /// How unevenly the answers came from the workers.
    pub(crate) variation: f64,
}

/// Measures one run.
pub(crate) fn measure(side: &Side<'_>, pattern: Pattern, time: Duration) -> anyhow::Result<Sample> {
    let (all, above) = (side.pids()?, side.above()?);
    let before = (spent(&all)?, spent(&above)?);
    let tally = side.load(pattern, time, &[])?;
    Ok(Sample {
        rate: tally.rate(),
        p99: tally.p99(),
        cpu: (spent(&all)? - before.0) / tally.answers(),
        above: (spent(&above)? - before.1) / tally.answers(),
        variation: variation(&tally.workers(), WORKERS),
    })
}

fn spent(pids: &[i32]) -> anyhow::Result<f64> {
    pids.iter().map(|pid| proc::cpu(*pid)).sum()
}
