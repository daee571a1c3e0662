//! The figures that clmgr promises, measured with the real release binary.
//!
//! `cargo bench --bench figures` measures all of them, `cargo bench --bench figures -- start logs` those
//! whose name contains one of the words; `--quick` makes fewer and shorter rounds of the long ones. What is compared with a limit in multiples of something is measured
//! against that something in the same run, in turns, so that a slow or busy machine slows both. The baselines
//! are small C programs in `benches/baseline`, compiled by gcc when the run begins. Nothing is asserted: the
//! result is a table.
//!
//! Everything runs in one new folder below `/tmp` with a `CLMGR_HOME` of its own, and is stopped at the end,
//! on failure, and on Ctrl-C.

#![expect(
    clippy::disallowed_methods,
    reason = "a benchmark reads clocks, lets time pass and writes the files it measures with"
)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the table is the product")]

mod bed;
mod commands;
mod contest;
mod control;
mod footprint;
mod home;
mod load;
mod logs;
mod proc;
mod respawn;
mod start;
mod stats;
mod table;
mod upgrade;

use std::process::ExitCode;

use bed::Bed;
use table::Row;

/// A figure: its name, and what measures it.
type Figure = (&'static str, fn(&Bed) -> anyhow::Result<Vec<Row>>);

const FIGURES: &[Figure] = &[
    ("size", footprint::size),
    ("start", start::start),
    ("respawn", respawn::respawn),
    ("restart", commands::restart),
    ("stop", start::stop),
    ("status", commands::status),
    ("upgrade", upgrade::upgrade),
    ("control", control::control),
    ("memory", footprint::memory),
    ("cpu", footprint::cpu),
    ("logs one app", logs::one::throughput),
    ("logs 50 apps", logs::crowd::crowd),
    ("logs rotation", logs::rotation::rotation),
    ("logs trickle", logs::trickle::trickle),
    ("logs history", logs::history::history),
    ("logs following", logs::following::following),
    ("logs stalled", logs::following::stalled),
    ("cluster speed", contest::speed),
    ("cluster sticky", contest::sticky),
    ("cluster blocked", contest::blocked),
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if !args.iter().any(|arg| arg == "--bench") {
        // `cargo test --all-targets` and test listings come here.
        return ExitCode::SUCCESS;
    }
    let words: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    let wanted = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word.as_str()));
    let quick = args.iter().any(|arg| arg == "--quick");
    match run(quick, &wanted) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Measures; true if every figure could be measured, whatever it is.
fn run(quick: bool, wanted: &dyn Fn(&str) -> bool) -> anyhow::Result<bool> {
    let bed = Bed::new(quick)?;
    let mut rows = Vec::new();
    let mut complete = true;
    for (name, measure) in FIGURES.iter().filter(|(name, _)| wanted(name)) {
        eprintln!("measuring {name} …");
        match measure(&bed) {
            Ok(found) => rows.extend(found),
            Err(error) => {
                eprintln!("{name} cannot be measured: {error:#}");
                complete = false;
            }
        }
    }
    println!("{}", table::render(&rows));
    Ok(complete)
}
