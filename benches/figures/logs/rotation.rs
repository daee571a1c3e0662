//! What rotation and gzip cost the app that writes.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::ensure;
use flate2::read::MultiGzDecoder;

use crate::bed::Bed;
use crate::home::Home;
use crate::logs::verify;
use crate::logs::writer::{amount, lines, rounds, timed_app, took, until};
use crate::stats::median;
use crate::table::{Limit, Row};

/// Every file is kept, so that every file is compressed.
const ALL: &str = "log_rotate = { size = \"10M\", keep = 10000, total = \"none\", compress = true }";

/// The time the app itself needs for its writes: rotated at 10 MiB with gzip, against one file.
pub(crate) fn rotation(bed: &Bed) -> anyhow::Result<Vec<Row>> {
    let mib = amount(bed)?;
    let home = Home::start(bed, "rotation")?;
    let (mut plain, mut rotated) = (Vec::new(), Vec::new());
    for round in 0..rounds(bed) {
        plain.push(write(bed, &home, mib, "log_rotate = false", false)?);
        rotated.push(write(bed, &home, mib, ALL, round == 0)?);
    }
    let figure = format!("writing {mib} MiB, rotated at 10 MiB, gzip");
    Ok(vec![
        Row::time(figure, median(&rotated), Limit::Times(1.05)).against(median(&plain)),
    ])
}

fn write(bed: &Bed, home: &Home<'_>, mib: u64, keys: &str, check: bool) -> anyhow::Result<f64> {
    let folder = home.file("written");
    let path = folder.join("app.log");
    let file = home.ecosystem(&timed_app(bed, "writer", lines(mib), &path, keys))?;
    home.run(&["start", &file])?;
    let took = took(&path)?;
    verify::wait_for_end(&[&path], lines(mib))?;
    // What is still compressed would slow the next round down.
    until("all rotated files are compressed", || {
        Ok(rotated(&folder)?.iter().all(|(_, path)| is_gz(path)))
    })?;
    home.run(&["delete", "writer"])?;
    if check {
        all_there(&folder, &path, mib)?;
    }
    fs::remove_dir_all(&folder)?;
    Ok(took)
}

/// The rotated files and their numbers, the oldest first.
fn rotated(folder: &Path) -> anyhow::Result<Vec<(u32, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let number = name.strip_prefix("app.log.").map(|rest| rest.trim_end_matches(".gz"));
        // Not the file that gzip is writing.
        if let Some(Ok(number)) = number.map(str::parse) {
            found.push((number, path));
        }
    }
    found.sort_by(|a, b| b.cmp(a));
    Ok(found)
}

fn is_gz(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "gz")
}

/// Fails unless there are as many files as there have to be, and all lines are in them.
fn all_there(folder: &Path, path: &Path, mib: u64) -> anyhow::Result<()> {
    let files = rotated(folder)?;
    ensure!(
        files.len() as u64 >= (mib / 10).saturating_sub(1),
        "{mib} MiB make {} rotated files",
        files.len()
    );
    let mut expected = 0;
    for (_, file) in files {
        let text = MultiGzDecoder::new(File::open(file)?);
        verify::read(&mut BufReader::with_capacity(1 << 20, text), &mut expected)?;
    }
    verify::read(&mut BufReader::new(File::open(path)?), &mut expected)?;
    ensure!(expected == lines(mib), "{expected} lines are there");
    Ok(())
}
