//! Whole commands, from the start of the process to its end.

use anyhow::ensure;

use crate::bed::Bed;
use crate::home::Home;
use crate::stats::{median, timed};
use crate::table::{Limit, Row};

/// `restart` of an app that dies at once on SIGTERM.
pub(crate) fn restart(bed: &Bed) -> anyhow::Result<Vec<Row>> {
    const ROUNDS: usize = 50;
    let home = Home::start(bed, "restart")?;
    home.run(&["start", &home.sleepers(1)?])?;
    let mut samples = Vec::new();
    for _ in 0..ROUNDS {
        let (took, ()) = timed(|| home.run(&["restart", "s0"]))?;
        samples.push(took);
    }
    Ok(vec![Row::time("restart", median(&samples), Limit::AtMost(0.015))])
}

/// `status --json` with 1, 100 and 500 apps, `--version`, and `/bin/true` to compare with.
pub(crate) fn status(bed: &Bed) -> anyhow::Result<Vec<Row>> {
    let home = Home::start(bed, "status")?;
    let mut rows = Vec::new();
    let floor = whole(|| Ok(bed.command("/bin/true").status()?.success()))?;
    rows.push(Row::time("/bin/true", floor, Limit::None));
    let version = whole(|| Ok(home.clmgr(&["--version"]).status()?.success()))?;
    rows.push(Row::time("--version", version, Limit::AtMost(0.0015)).against(floor));
    for (count, limit) in [(1, 0.002), (100, 0.003), (500, 0.006)] {
        home.run(&["start", &home.sleepers(count)?])?;
        let alive = home.alive()?;
        ensure!(alive == count, "{alive} of {count} apps run");
        let took = whole(|| Ok(home.clmgr(&["status", "--json"]).status()?.success()))?;
        let name = format!("status --json, {count} apps");
        rows.push(Row::time(name, took, Limit::AtMost(limit)).against(floor));
    }
    Ok(rows)
}

/// The median time of a whole process.
fn whole(run: impl Fn() -> anyhow::Result<bool>) -> anyhow::Result<f64> {
    const ROUNDS: usize = 200;
    let mut samples = Vec::new();
    for _ in 0..ROUNDS {
        let (took, worked) = timed(&run)?;
        ensure!(worked, "the command failed");
        samples.push(took);
    }
    Ok(median(&samples))
}
