//! What clmgr costs while nothing happens: memory, CPU, disk.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::ensure;

use crate::bed::Bed;
use crate::home::Home;
use crate::proc;
use crate::table::{Limit, Row};

const MIB: f64 = 1_048_576.0;

/// How long it is left alone before it counts as idle: `status` makes the daemon look at its apps for 5 s more,
/// and memory is given back 2 s after the last thing that happened.
const SETTLE: Duration = Duration::from_secs(10);

/// The release binary.
pub(crate) fn size(_: &Bed) -> anyhow::Result<Vec<Row>> {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53 bytes")]
    let size = fs::metadata(Bed::binary())?.len() as f64;
    Ok(vec![Row::size("release binary", size, Limit::AtMost(10e6))])
}

/// PSS of keeper and daemon without apps and with 500.
pub(crate) fn memory(bed: &Bed) -> anyhow::Result<Vec<Row>> {
    let home = Home::start(bed, "memory")?;
    let both = || anyhow::Ok(proc::pss(home.keeper)? + proc::pss(home.daemon)?);
    thread::sleep(SETTLE);
    let empty = both()?;
    start_500(&home)?;
    let full = both()?;
    let each = Row::size("PSS for each instance", (full - empty) / 500.0, Limit::AtMost(8192.0));
    Ok(vec![
        Row::size("PSS, 0 apps", empty, Limit::AtMost(5.0 * MIB)),
        Row::size("PSS, 500 apps", full, Limit::AtMost(9.0 * MIB)),
        each,
    ])
}

/// CPU time of keeper and daemon over 30 s with 500 idle apps and nobody looking.
pub(crate) fn cpu(bed: &Bed) -> anyhow::Result<Vec<Row>> {
    let home = Home::start(bed, "cpu")?;
    start_500(&home)?;
    let both = || anyhow::Ok(proc::cpu(home.keeper)? + proc::cpu(home.daemon)?);
    let before = both()?;
    thread::sleep(Duration::from_secs(30));
    let used = both()? - before;
    Ok(vec![Row::time(
        "CPU over 30 s, 500 idle apps",
        used,
        Limit::AtMost(0.05),
    )])
}

fn start_500(home: &Home<'_>) -> anyhow::Result<()> {
    home.run(&["start", &home.sleepers(500)?])?;
    let alive = home.alive()?;
    ensure!(alive == 500, "{alive} of 500 apps run");
    thread::sleep(SETTLE);
    Ok(())
}
