//! What `clmgr logs -f` costs the daemon, and what one that stands still costs the app.

use std::fs;
use std::process::Child;
use std::thread;
use std::time::Duration;

use anyhow::ensure;
use rustix::process::{Pid, Signal, kill_process};

use crate::bed::Bed;
use crate::home::Home;
use crate::logs::trickle::{SETTLE, apps};
use crate::logs::verify::wait_for_end;
use crate::logs::writer::{Format, lines, timed_app, took, until};
use crate::proc;
use crate::stats::median;
use crate::table::{Limit, Row};

/// How many apps are followed.
const APPS: usize = 100;

/// MiB that are written beside a stalled follower.
const MIB: u64 = 256;

/// The share of a core that the daemon uses more when 100 apps, each with a line a second, are followed.
pub(crate) fn following(bed: &Bed) -> anyhow::Result<Vec<Row>> {
    let (rounds, span) = if bed.quick() { (1_u32, 10) } else { (2, 15) };
    let span = Duration::from_secs(span);
    let home = Home::start(bed, "following")?;
    home.run(&["start", &home.ecosystem(&apps(bed, APPS, Format::Raw, ""))?])?;
    let used = |pid| {
        let before = proc::cpu(pid)?;
        thread::sleep(span);
        anyhow::Ok((proc::cpu(pid)? - before) / span.as_secs_f64() / f64::from(rounds))
    };
    let (mut alone, mut followed) = (0.0, 0.0);
    for _ in 0..rounds {
        // The start of the apps or a follower's question is still felt.
        thread::sleep(SETTLE);
        alone += used(home.daemon)?;
        let follower = Follower::start(&home, "all", APPS)?;
        thread::sleep(SETTLE);
        followed += used(home.daemon)?;
        follower.end()?;
    }
    let figure = format!("share of a core for following {APPS} apps at 1 line/s, daemon");
    Ok(vec![
        Row::share(figure, followed - alone, Limit::AtMost(0.001)).against(alone),
    ])
}

/// The time an app needs for its writes while somebody who follows it is stopped.
pub(crate) fn stalled(bed: &Bed) -> anyhow::Result<Vec<Row>> {
    let rounds = if bed.quick() { 5 } else { 11 };
    let home = Home::start(bed, "stalled")?;
    let path = home.file("app.log");
    let app = timed_app(bed, "writer", lines(MIB), &path, "log_rotate = false");
    home.run(&["start", &home.ecosystem(&app)?])?;
    let write = |follower: Option<Follower>| {
        let took = took(&path)?;
        wait_for_end(&[&path], lines(MIB))?;
        follower.map_or(Ok(()), Follower::end)?;
        home.run(&["flush", "writer"])?;
        anyhow::Ok(took)
    };
    write(None)?;
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        home.run(&["restart", "writer"])?;
        alone.push(write(None)?);
        let follower = Follower::start(&home, "writer", 1)?;
        kill_process(Pid::from_child(&follower.process), Signal::STOP)?;
        home.run(&["restart", "writer"])?;
        beside.push(write(Some(follower))?);
    }
    let figure = format!("writing {MIB} MiB beside a stalled follower");
    Ok(vec![
        Row::time(figure, median(&beside), Limit::Speed(0.97)).against(median(&alone)),
    ])
}

/// `clmgr logs -f`, whose output nobody reads.
#[derive(Debug)]
struct Follower {
    process: Child,
}

impl Follower {
    /// Starts it; returns when it has so many log files open.
    fn start(home: &Home<'_>, target: &str, files: usize) -> anyhow::Result<Self> {
        let process = home.clmgr(&["logs", target, "-f"]).spawn()?;
        let descriptors = format!("/proc/{}/fd", process.id());
        until("the logs are followed", || {
            let open = fs::read_dir(&descriptors)?.flatten();
            let logs = open.filter(|entry| {
                let to = fs::read_link(entry.path());
                to.is_ok_and(|path| path.extension().is_some_and(|extension| extension == "log"))
            });
            Ok(logs.count() >= files)
        })?;
        Ok(Self { process })
    }

    /// Ends it, if it is still there.
    fn end(mut self) -> anyhow::Result<()> {
        ensure!(self.process.try_wait()?.is_none(), "`clmgr logs -f` has ended");
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }
}
