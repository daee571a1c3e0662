//! How long nobody answers while another build takes over.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{fs, thread};

use anyhow::{Context as _, ensure};

use crate::bed::Bed;
use crate::home::Home;
use crate::stats::{median, quantile, timed};
use crate::table::{Limit, Row};

/// Upgrades, back and forth.
const ROUNDS: usize = 20;
/// Instances that must not notice.
const INSTANCES: usize = 100;

/// Twenty upgrades with 100 instances. The gap of one is the longest time that a `GET /v1/ping` on a connection of
/// its own waited during it.
pub(crate) fn upgrade(bed: &Bed) -> anyhow::Result<Vec<Row>> {
    let home = Home::start(bed, "upgrade")?;
    home.run(&["start", &home.sleepers(INSTANCES)?])?;
    let before = home.output(&["pid", "--json"])?;
    let other = home.file("other");
    fs::copy(Bed::binary(), &other)?;
    fs::set_permissions(&other, fs::Permissions::from_mode(0o755))?;
    let (mut gaps, mut whole) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let build = if round % 2 == 0 { &other } else { Bed::binary() };
        let build = build.to_str().context("the path is no text")?;
        let (took, gap) = during(&home.file("clmgr.sock"), || {
            timed(|| home.run(&["upgrade", "--to", build])).map(|(took, ())| took)
        })?;
        whole.push(took);
        gaps.push(gap);
    }
    ensure!(before == home.output(&["pid", "--json"])?, "a process was replaced");
    let name = |what: &str| format!("upgrade, {INSTANCES} instances: {what}");
    Ok(vec![
        Row::time(name("whole command"), median(&whole), Limit::None),
        Row::time(name("control gap, median"), median(&gaps), Limit::None),
        Row::time(name("control gap, p99"), quantile(&gaps, 0.99), Limit::AtMost(0.1)),
    ])
}

/// Asks again and again while `work` goes on; what it returns, and the longest answer.
fn during(socket: &Path, work: impl FnOnce() -> anyhow::Result<f64>) -> anyhow::Result<(f64, f64)> {
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut longest = 0.0_f64;
            while !ended.load(Ordering::Relaxed) {
                let (took, ()) = timed(|| ask(socket))?;
                longest = longest.max(took);
            }
            anyhow::Ok(longest)
        });
        let result = work();
        ended.store(true, Ordering::Relaxed);
        let longest = asking
            .join()
            .map_err(|_| anyhow::anyhow!("the asking thread failed"))??;
        Ok((result?, longest))
    })
}

/// One question on a connection of its own. A connection that ends without an answer is a question to be asked again:
/// the time goes on.
fn ask(socket: &Path) -> anyhow::Result<()> {
    const TRIES: usize = 1000;
    for _ in 0..TRIES {
        let mut stream = UnixStream::connect(socket).context("nobody listens")?;
        let mut answer = String::new();
        let asked = stream
            .write_all(b"GET /v1/ping HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            .and_then(|()| stream.read_to_string(&mut answer));
        if asked.is_ok() && answer.starts_with("HTTP/1.1 200") {
            return Ok(());
        }
    }
    anyhow::bail!("no answer in {TRIES} tries")
}
