//! Every line that a writer wrote is in its log, once, in order and whole, wherever it was rotated to.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;

use anyhow::Context as _;

use super::Known;
use crate::fleet;
use crate::ledger::Record;
use crate::report::Report;

pub(super) fn check(known: &Known<'_>, report: &Report) -> anyhow::Result<()> {
    for app in fleet::names("lines") {
        let wrote = known.ledger.iter().rev().find_map(|entry| match entry.record {
            Record::Wrote(lines) if entry.app == app => Some(lines),
            Record::Wrote(_) | Record::Born | Record::Code(_) | Record::Signal(_) => None,
        });
        let Some(wrote) = wrote else {
            report.wrong("lines lost", 1, format!("{app} never came to its end"));
            continue;
        };
        report.count("log lines expected", wrote);
        let end = read(known, report, &app)?;
        if end < wrote {
            let text = format!("{app}: the last {} of {wrote} lines are missing", wrote - end);
            report.wrong("lines lost", wrote - end, text);
        }
    }
    Ok(())
}

/// Reads all files of a writer; returns the number that comes next.
fn read(known: &Known<'_>, report: &Report, app: &str) -> anyhow::Result<u64> {
    let path = known.world.home().join(format!("logs/{app}-0-out.log"));
    let rotated = |number: u32| PathBuf::from(format!("{}.{number}", path.display()));
    let mut files: Vec<PathBuf> = (1..).map(rotated).take_while(|path| path.exists()).collect();
    files.reverse();
    files.push(path);
    let mut next = 0_u64;
    let mut line = String::new();
    for path in files {
        let mut file = BufReader::new(File::open(&path).with_context(|| path.display().to_string())?);
        while {
            line.clear();
            file.read_line(&mut line)? > 0
        } {
            let told = || format!("{}: {:?} where {next} comes next", path.display(), line.trim_end());
            match number(&line) {
                None => {
                    report.wrong("lines broken", 1, told());
                    next += 1;
                }
                Some(number) if number == next => next += 1,
                Some(number) if number > next => {
                    report.wrong("lines lost", number - next, told());
                    next = number + 1;
                }
                Some(number) if number + 1 == next => report.wrong("lines repeated", 1, told()),
                Some(_) => report.wrong("lines out of order", 1, told()),
            }
        }
    }
    Ok(next)
}

/// The number of a line that is whole.
fn number(line: &str) -> Option<u64> {
    let (number, zeros) = line.strip_suffix('\n')?.split_once(' ')?;
    let number: u64 = number.parse().ok()?;
    let length = usize::try_from(number % 50).ok()?.max(1);
    (zeros.len() == length && zeros.bytes().all(|byte| byte == b'0')).then_some(number)
}
