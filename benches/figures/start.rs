//! Starting and stopping many apps at once.

use std::process::Stdio;

use anyhow::{Context as _, ensure};

use crate::bed::Bed;
use crate::home::Home;
use crate::stats::{median, timed, to_seconds};
use crate::table::{Limit, Row};

/// How often each is done.
const ROUNDS: usize = 5;

/// One call that starts 100 and 500 apps, until all run, against a loop of `posix_spawn`.
pub(crate) fn start(bed: &Bed) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for count in [100, 500] {
        let home = Home::start(bed, &format!("start{count}"))?;
        let file = home.sleepers(count)?;
        let (mut ours, mut bare) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            bare.push(spawn_loop(bed, count)?);
            let (took, ()) = timed(|| home.run(&["start", &file]))?;
            ours.push(took);
            let alive = home.alive()?;
            ensure!(alive == count, "{alive} of {count} apps run");
            home.run(&["delete", "all"])?;
        }
        let row = Row::time(format!("start {count} apps"), median(&ours), Limit::Times(1.5));
        rows.push(row.against(median(&bare)));
    }
    Ok(rows)
}

/// The time a bare C loop needs, in seconds.
fn spawn_loop(bed: &Bed, count: usize) -> anyhow::Result<f64> {
    let output = bed
        .command(bed.path("spawn_loop"))
        .args([&count.to_string(), "/bin/sleep", "2147483647"])
        .stdout(Stdio::piped())
        .output()?;
    ensure!(output.status.success(), "spawn_loop failed: {}", output.status);
    let text = String::from_utf8(output.stdout)?;
    let nanoseconds: i64 = text
        .trim()
        .parse()
        .with_context(|| format!("spawn_loop said {text:?}"))?;
    Ok(to_seconds(nanoseconds))
}

/// One call that stops 500 apps which die at once on SIGTERM.
pub(crate) fn stop(bed: &Bed) -> anyhow::Result<Vec<Row>> {
    const COUNT: usize = 500;
    let home = Home::start(bed, "stop")?;
    let file = home.sleepers(COUNT)?;
    let mut samples = Vec::new();
    for _ in 0..ROUNDS {
        home.run(&["start", &file])?;
        let alive = home.alive()?;
        ensure!(alive == COUNT, "{alive} of {COUNT} apps run");
        let (took, ()) = timed(|| home.run(&["stop", "all"]))?;
        samples.push(took);
        let left = home.alive()?;
        ensure!(left == 0, "{left} apps still run after `stop all`");
    }
    Ok(vec![Row::time("stop 500 apps", median(&samples), Limit::AtMost(0.5))])
}
