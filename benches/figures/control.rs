//! How soon clmgr answers again when its daemon was killed.

use std::fmt::Write as _;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::Value;

use crate::bed::Bed;
use crate::home::Home;
use crate::stats::{median, quantile, timed};
use crate::table::{Limit, Row};

/// Longer than a daemon must live to be started again without a pause.
const LIFE: Duration = Duration::from_millis(700);

/// A whole `status --json`, begun right after a kill -9 of the daemon, with 100 and 1000 instances of 100 apps.
pub(crate) fn control(bed: &Bed) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (each, rounds, limit) in [(1, 50, 0.2), (10, 20, 1.0)] {
        let count = each * 100;
        let home = Home::start(bed, &format!("control{count}"))?;
        home.run(&["start", &home.ecosystem(&sleepers(each)?)?])?;
        let before = home.output(&["pid", "--json"])?;
        let mut samples = Vec::new();
        for _ in 0..rounds {
            thread::sleep(LIFE);
            let daemon = daemon(&home)?;
            let process = pidfd_open(daemon, PidfdFlags::empty())?;
            pidfd_send_signal(&process, Signal::KILL)?;
            let (took, ()) = timed(|| home.run(&["status", "--json"]))?;
            samples.push(took);
        }
        let after = home.output(&["pid", "--json"])?;
        ensure!(before == after, "pids have changed");
        let name = |what: &str| format!("kill -9 to status, {count} instances, {what}");
        rows.push(Row::time(name("median"), median(&samples), Limit::None));
        rows.push(Row::time(name("p99"), quantile(&samples, 0.99), Limit::AtMost(limit)));
    }
    Ok(rows)
}

fn sleepers(each: u32) -> anyhow::Result<String> {
    let mut text = format!("[defaults]\ninstances = {each}\n");
    for number in 0..100 {
        writeln!(text, "[[apps]]\nname = \"s{number}\"\ncmd = \"/bin/sleep 2147483647\"")?;
    }
    Ok(text)
}

/// The daemon that lives now.
fn daemon(home: &Home<'_>) -> anyhow::Result<Pid> {
    let ping: Value = serde_json::from_str(&home.output(&["ping", "--json"])?)?;
    let pid = ping["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
    pid.and_then(Pid::from_raw).context("ping gives no pid")
}
