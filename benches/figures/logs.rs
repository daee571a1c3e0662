//! One app that writes 1 GiB of lines, against `writer | cat > file`.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

use crate::bed::Bed;
use crate::home::Home;
use crate::stats::{median, now, timed, to_seconds};
use crate::table::{Limit, Row};

/// Bytes of a line, its newline included. As in `lines.c`.
const LINE: usize = 100;

/// How often each is done.
const ROUNDS: usize = 3;

/// Lines as they are, and lines with a timestamp. `FIGURES_LOG_MIB` writes less than 1024 MiB.
pub(crate) fn throughput(bed: &Bed) -> anyhow::Result<Vec<Row>> {
    let mib: u64 = std::env::var("FIGURES_LOG_MIB").map_or(Ok(1024), |text| text.parse())?;
    let lines = (mib << 20) / LINE as u64;
    let home = Home::start(bed, "logs")?;
    let (mut cat, mut raw, mut stamped) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        cat.push(through_cat(bed, lines)?);
        raw.push(through_clmgr(bed, &home, lines, false)?);
        stamped.push(through_clmgr(bed, &home, lines, true)?);
    }
    let cat = median(&cat);
    Ok(vec![
        Row::time(format!("{mib} MiB of log, raw"), median(&raw), Limit::Speed(0.6)).against(cat),
        Row::time(
            format!("{mib} MiB of log, stamped"),
            median(&stamped),
            Limit::Speed(0.3),
        )
        .against(cat),
    ])
}

fn through_cat(bed: &Bed, lines: u64) -> anyhow::Result<f64> {
    let path = bed.path("cat.log");
    let file = File::create(&path)?;
    let (took, ()) = timed(|| {
        let mut writer = bed
            .command(bed.path("lines"))
            .arg(lines.to_string())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = writer.stdout.take().context("no pipe")?;
        let status = bed.command("/bin/cat").stdin(output).stdout(file).status()?;
        ensure!(writer.wait()?.success() && status.success(), "writer | cat failed");
        Ok(())
    })?;
    check(&path, lines)?;
    fs::remove_file(&path)?;
    Ok(took)
}

fn through_clmgr(bed: &Bed, home: &Home<'_>, lines: u64, stamped: bool) -> anyhow::Result<f64> {
    let path = home.file("app.log");
    let file = home.ecosystem(&format!(
        "[[apps]]\nname = \"writer\"\ncmd = [\"{}\", \"{lines}\"]\nrestart = \"never\"\nout_file = \"{}\"\n\
         log_rotate = false\ntime = {stamped}\n",
        bed.path("lines").display(),
        path.display()
    ))?;
    let begin = now();
    home.run(&["start", &file])?;
    wait_for_end(&path, lines)?;
    let took = to_seconds(now() - begin);
    check(&path, lines)?;
    home.run(&["delete", "writer"])?;
    let _ = fs::remove_file(&path);
    Ok(took)
}

/// Returns when the file ends with the last line.
fn wait_for_end(path: &Path, lines: u64) -> anyhow::Result<()> {
    let deadline = now() + 300_000_000_000;
    let mut last = [0; LINE];
    while now() < deadline {
        if let Ok(file) = File::open(path)
            && let Some(at) = file.metadata()?.len().checked_sub(LINE as u64)
            && file.read_exact_at(&mut last, at).is_ok()
            && number(&last) == Some(lines - 1)
            && last.ends_with(b"\n")
        {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(2));
    }
    bail!("the log is not complete after 300 s: {}", path.display())
}

/// Fails unless every line is there, whole and in order.
fn check(path: &Path, lines: u64) -> anyhow::Result<()> {
    let mut reader = BufReader::with_capacity(1 << 20, File::open(path)?);
    let mut line = Vec::new();
    let mut expected = 0;
    while reader.read_until(b'\n', &mut line)? > 0 {
        // A timestamp stands before the line.
        let bare = line.len().checked_sub(LINE).map(|at| &line[at..]);
        let found = bare.and_then(number);
        ensure!(
            found == Some(expected),
            "line {expected} is {}",
            String::from_utf8_lossy(&line)
        );
        expected += 1;
        line.clear();
    }
    ensure!(
        expected == lines,
        "{expected} of {lines} lines are in {}",
        path.display()
    );
    Ok(())
}

/// The number that a line of `lines.c` begins with.
fn number(line: &[u8]) -> Option<u64> {
    std::str::from_utf8(line.get(..10)?).ok()?.parse().ok()
}
