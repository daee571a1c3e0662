//! How soon the first line of a time is shown.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use jiff::Timestamp;

use crate::bed::Bed;
use crate::home::Home;
use crate::logs::made::{History, RARE, forget};
use crate::logs::verify::{number, wait_for_end};
use crate::logs::writer::{self, amount, lines};
use crate::stats::{median, now, to_seconds};
use crate::table::{Limit, Row};

/// From the start of the command to its first byte, in seconds.
const FIRST: f64 = 0.2;

/// Where in the history is looked, in percent of it.
const PLACES: [u8; 5] = [3, 25, 50, 75, 97];

/// How often at each place.
const TRIES: usize = 3;

/// After so long, the times of raw lines are known to readers.
const INDEXED: Duration = Duration::from_secs(2);

/// Of the range that is asked for, in milliseconds.
const HOUR: i64 = 3_600_000;

/// `clmgr logs --since … --until … --grep …` in 10 GiB of stamped log: one file, and about 1000 rotated and
/// compressed ones, each in the page cache and not. `FIGURES_LOG_HISTORY_MIB` makes another size. Shown is the slowest
/// of five places, of the median of three tries each. Then the same with `--since` only in a raw log.
pub(crate) fn history(bed: &Bed) -> anyhow::Result<Vec<Row>> {
    let usual = if bed.quick() { 1024 } else { 10 * 1024 };
    let mib = std::env::var("FIGURES_LOG_HISTORY_MIB").map_or(Ok(usual), |text| text.parse())?;
    let home = Home::start(bed, "history")?;
    let folder = home.file("long");
    let history = History::new(mib);
    let mut rows = Vec::new();
    for compressed in [false, true] {
        fs::create_dir(&folder)?;
        let path = folder.join("app.log");
        let what = if compressed {
            let files = history.rotated(&path)?;
            format!("{mib} MiB of log in {files} compressed files")
        } else {
            history.plain(&path)?;
            format!("{mib} MiB of log in one file")
        };
        run_beside(&home, &path)?;
        let cold = slowest(&home, &history, &folder, true)?;
        rows.push(Row::time(
            format!("first match, {what}, from disk"),
            cold,
            Limit::AtMost(FIRST),
        ));
        let warm = slowest(&home, &history, &folder, false)?;
        rows.push(Row::time(
            format!("first match, {what}, cached"),
            warm,
            Limit::AtMost(FIRST),
        ));
        home.run(&["delete", "app"])?;
        fs::remove_dir_all(&folder)?;
    }
    rows.push(by_index(bed, &home)?);
    Ok(rows)
}

/// An app that has written all that, and is silent now.
fn run_beside(home: &Home<'_>, path: &Path) -> anyhow::Result<()> {
    let file = home.ecosystem(&format!(
        "[[apps]]\nname = \"app\"\ncmd = \"/bin/sleep 2147483647\"\nout_file = \"{}\"\ntime = true\n\
         log_rotate = {{ size = \"none\", keep = 100000, total = \"none\" }}\n",
        path.display()
    ))?;
    home.run(&["start", &file])
}

fn slowest(home: &Home<'_>, history: &History, folder: &Path, cold: bool) -> anyhow::Result<f64> {
    let mut slowest: f64 = 0.0;
    for place in PLACES {
        let mut samples = Vec::new();
        for _ in 0..TRIES {
            if cold {
                forget(folder)?;
            }
            samples.push(find(home, history, history.at(place))?);
        }
        slowest = slowest.max(median(&samples));
    }
    Ok(slowest)
}

/// The time to the first byte of the first match in an hour.
fn find(home: &Home<'_>, history: &History, since: i64) -> anyhow::Result<f64> {
    let (from, to) = (text(since)?, text(since + HOUR)?);
    let (took, line) = first(home, &["--since", &from, "--until", &to, "--grep", RARE])?;
    let expected = history.first_rare(since);
    ensure!(
        line.contains(&format!(" {expected:010} ")) && line.contains(RARE),
        "line {expected} is the first match since {from}, shown was {line}"
    );
    Ok(took)
}

/// The same in a raw log, whose lines carry no time: from the middle of the time in which it was written.
fn by_index(bed: &Bed, home: &Home<'_>) -> anyhow::Result<Row> {
    let mib = amount(bed)?;
    let path = home.file("raw.log");
    let app = writer::timed_app(bed, "app", lines(mib), &path, "log_rotate = false");
    home.run(&["start", &home.ecosystem(&app)?])?;
    wait_for_end(&[&path], lines(mib))?;
    let end = Timestamp::now();
    let before = Duration::from_secs_f64(writer::took(&path)? / 2.0);
    let middle = end.checked_sub(before)?.to_string();
    thread::sleep(INDEXED);
    let mut samples = Vec::new();
    for _ in 0..PLACES.len() * TRIES {
        let (took, line) = first(home, &["--since", &middle])?;
        ensure!(
            number(line.as_bytes()).is_some_and(|number| number > 0),
            "since the middle of the log: {line}"
        );
        samples.push(took);
    }
    home.run(&["delete", "app"])?;
    fs::remove_file(&path)?;
    let figure = format!("first line since a time, {mib} MiB of raw log, cached");
    Ok(Row::time(figure, median(&samples), Limit::AtMost(FIRST)))
}

fn text(milliseconds: i64) -> anyhow::Result<String> {
    Ok(Timestamp::from_millisecond(milliseconds)?.to_string())
}

/// The time to the first byte that `clmgr logs app` shows, and its first line.
fn first(home: &Home<'_>, asked: &[&str]) -> anyhow::Result<(f64, String)> {
    let args = [&["logs", "app", "--nostream", "--raw"], asked].concat();
    let begin = now();
    let mut child = home.clmgr(&args).stdout(Stdio::piped()).spawn()?;
    let mut output = BufReader::new(child.stdout.take().context("no pipe")?);
    let mut line = vec![0];
    let first = output.read_exact(&mut line);
    let took = to_seconds(now() - begin);
    let rest = output.read_until(b'\n', &mut line);
    // It goes on with more, which nobody wants.
    child.kill()?;
    child.wait()?;
    first.with_context(|| format!("`clmgr {}` shows nothing", args.join(" ")))?;
    rest?;
    Ok((took, String::from_utf8_lossy(&line).into_owned()))
}
