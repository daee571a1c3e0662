//! 50 apps that write as fast as they can.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::ensure;

use crate::bed::Bed;
use crate::home::Home;
use crate::logs::verify::{check, wait_for_end};
use crate::logs::writer::{Cat, Format, amount, app, lines, rounds, until};
use crate::proc;
use crate::stats::{median, quantile, timed};
use crate::table::{Limit, Row};

/// How many.
const APPS: u64 = 50;

/// Questions asked during the flood, of each kind.
const QUESTIONS: usize = 200;

/// What each may take, at the 99th percentile, in seconds.
const ANSWER: f64 = 0.02;

/// More lines than anybody waits for.
const ENDLESS: u64 = 9_999_999_999;

/// Speed against 50 times `writer | cat > file`; then a flood in all formats with rotation and gzip, during which
/// `status` is asked. The memory is the highest of all that.
pub(crate) fn crowd(bed: &Bed) -> anyhow::Result<Vec<Row>> {
    let mib = amount(bed)?;
    let home = Home::start(bed, "crowd")?;
    let (mut cats, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..rounds(bed) {
        cats.push(through_cats(bed, lines(mib) / APPS)?);
        ours.push(through_clmgr(bed, &home, lines(mib) / APPS)?);
    }
    let figure = format!("{mib} MiB of log from {APPS} apps, raw");
    let mut rows = vec![Row::time(figure, median(&ours), Limit::Speed(0.9)).against(median(&cats))];
    rows.extend(flood(bed, &home)?);
    let daemon = format!("peak RSS of the daemon, {APPS} apps flood");
    rows.push(Row::size(
        daemon,
        proc::peak(home.daemon)?,
        Limit::AtMost(12.0 * 1_048_576.0),
    ));
    let keeper = format!("peak RSS of the keeper, {APPS} apps flood");
    rows.push(Row::size(keeper, proc::peak(home.keeper)?, Limit::None));
    Ok(rows)
}

fn through_cats(bed: &Bed, lines: u64) -> anyhow::Result<f64> {
    let paths: Vec<PathBuf> = (0..APPS).map(|number| bed.path(&format!("cat{number}.log"))).collect();
    let (took, ()) = timed(|| {
        let cats: Vec<Cat> = paths
            .iter()
            .map(|path| Cat::start(bed, lines, path))
            .collect::<anyhow::Result<_>>()?;
        cats.into_iter().try_for_each(Cat::finish)
    })?;
    finish(&paths, lines)?;
    Ok(took)
}

fn through_clmgr(bed: &Bed, home: &Home<'_>, lines: u64) -> anyhow::Result<f64> {
    let paths: Vec<PathBuf> = (0..APPS).map(|number| home.file(&format!("a{number}.log"))).collect();
    let apps = paths.iter().enumerate();
    let text: String = apps
        .map(|(number, path)| app(bed, &format!("a{number}"), lines, path, "log_rotate = false"))
        .collect();
    let file = home.ecosystem(&text)?;
    let (took, ()) = timed(|| {
        home.run(&["start", &file])?;
        wait_for_end(&paths, lines)
    })?;
    home.run(&["delete", "all"])?;
    finish(&paths, lines)?;
    Ok(took)
}

fn finish(paths: &[PathBuf], lines: u64) -> anyhow::Result<()> {
    for path in paths {
        check(path, lines)?;
        fs::remove_file(path)?;
    }
    Ok(())
}

/// How soon `status` is answered meanwhile: a request on the socket, and the whole command.
fn flood(bed: &Bed, home: &Home<'_>) -> anyhow::Result<Vec<Row>> {
    let folder = home.file("flood");
    let formats = [Format::Raw, Format::Stamped, Format::Json];
    let text: String = (0..APPS)
        .zip(formats.iter().cycle())
        .map(|(number, format)| {
            // Two rotated files each, so that an endless flood fills no disk.
            let keys = format!("log_rotate = {{ keep = 2 }}\n{}", format.key());
            let path = folder.join(format!("{number}.log"));
            app(bed, &format!("a{number}"), ENDLESS, &path, &keys)
        })
        .collect();
    home.run(&["start", &home.ecosystem(&text)?])?;
    let (mut requests, mut commands, mut floor) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..QUESTIONS {
        requests.push(timed(|| request(home))?.0);
        commands.push(timed(|| home.run(&["status", "--json"]))?.0);
        floor.push(timed(|| Ok(bed.command("/bin/true").status()?))?.0);
        thread::sleep(Duration::from_millis(5));
    }
    let alive = home.alive()?;
    home.run(&["delete", "all"])?;
    // What was in the pipes is still written and compressed.
    until("the logs are removed", || Ok(fs::remove_dir_all(&folder).is_ok()))?;
    ensure!(alive as u64 == APPS, "{alive} of {APPS} apps were writing at the end");
    let p99 = |samples: &[f64]| quantile(samples, 0.99);
    let row = |what: &str, samples: &[f64]| {
        let figure = format!("status, p99, {APPS} apps flood, {what}");
        Row::time(figure, p99(samples), Limit::AtMost(ANSWER)).against(p99(&floor))
    };
    Ok(vec![row("request", &requests), row("command", &commands)])
}

/// `GET /v1/status` on a connection of its own.
fn request(home: &Home<'_>) -> anyhow::Result<()> {
    let mut stream = UnixStream::connect(home.file("clmgr.sock"))?;
    stream.write_all(b"GET /v1/status HTTP/1.1\r\nHost: clmgr\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let first = answer.split(|byte| *byte == b'\r').next().unwrap_or_default();
    ensure!(
        first.ends_with(b" 200 OK"),
        "the answer to a request is {}",
        String::from_utf8_lossy(first)
    );
    Ok(())
}
