//! One app that writes 1 GiB of lines, against `writer | cat > file`.

use std::fs;

use crate::bed::Bed;
use crate::home::Home;
use crate::logs::verify::{check, wait_for_end};
use crate::logs::writer::{Cat, Format, amount, app, lines, rounds};
use crate::stats::{median, timed};
use crate::table::{Limit, Row};

/// The formats, and what share of the pipe's speed is promised.
const FORMATS: [(Format, f64); 3] = [(Format::Raw, 0.9), (Format::Stamped, 0.5), (Format::Json, 0.3)];

/// From before the start of the app until its last line is in the file, in each format.
pub(crate) fn throughput(bed: &Bed) -> anyhow::Result<Vec<Row>> {
    let mib = amount(bed)?;
    let home = Home::start(bed, "logs")?;
    let mut cat = Vec::new();
    let mut ours = FORMATS.map(|_| Vec::new());
    for _ in 0..rounds(bed) {
        cat.push(through_cat(bed, lines(mib))?);
        for ((format, _), samples) in FORMATS.iter().zip(&mut ours) {
            samples.push(through_clmgr(bed, &home, lines(mib), *format)?);
        }
    }
    let cat = median(&cat);
    let rows = FORMATS.iter().zip(&ours).map(|((format, share), samples)| {
        let figure = format!("{mib} MiB of log, {format}");
        Row::time(figure, median(samples), Limit::Speed(*share)).against(cat)
    });
    Ok(rows.collect())
}

fn through_cat(bed: &Bed, lines: u64) -> anyhow::Result<f64> {
    let path = bed.path("cat.log");
    let (took, ()) = timed(|| Cat::start(bed, lines, &path)?.finish())?;
    check(&path, lines)?;
    fs::remove_file(&path)?;
    Ok(took)
}

fn through_clmgr(bed: &Bed, home: &Home<'_>, lines: u64, format: Format) -> anyhow::Result<f64> {
    let path = home.file("app.log");
    let keys = format!("log_rotate = false\n{}", format.key());
    let file = home.ecosystem(&app(bed, "writer", lines, &path, &keys))?;
    let (took, ()) = timed(|| {
        home.run(&["start", &file])?;
        wait_for_end(&[&path], lines)
    })?;
    check(&path, lines)?;
    home.run(&["delete", "writer"])?;
    fs::remove_file(&path)?;
    Ok(took)
}
