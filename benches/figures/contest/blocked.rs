//! One worker blocks 50 ms in every 250 ms, while connections come at a fixed rate.

use super::side::{Side, Who};
use crate::bed::Bed;
use crate::load::Pattern;
use crate::stats::median;
use crate::table::{Limit, Row};

/// Connections per second: a fraction of what four workers carry, so that only the block makes anybody wait.
const RATE: u32 = 2000;

/// The p99 of connections, ours against Node's own round robin.
pub(crate) fn blocked(bed: &Bed) -> anyhow::Result<Vec<Row>> {
    let whos = [Who::RoundRobin, Who::Group, Who::Clmgr("")];
    let sides = whos
        .into_iter()
        .map(|who| Side::start(bed, who, &[("BLOCK", "1")]))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let (rounds, time) = bed.rounds();
    let mut samples = vec![Vec::new(); sides.len()];
    for _ in 0..rounds {
        for (side, samples) in sides.iter().zip(&mut samples) {
            samples.push(side.load(Pattern::Open(RATE), time, &[])?.p99());
        }
    }
    let p99: Vec<f64> = samples.iter().map(|samples| median(samples)).collect();
    let [theirs, bare, ours] = p99[..] else {
        return Ok(Vec::new());
    };
    let name = |who: Who| format!("one worker blocked, p99, {}", who.name());
    Ok(vec![
        Row::time(name(Who::Clmgr("")), ours, Limit::Times(1.0)).against(theirs),
        Row::time(name(Who::Group), bare, Limit::None).against(theirs),
    ])
}
