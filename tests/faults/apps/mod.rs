//! The apps that are supervised: this same binary as `faults app ROLE FOLDER [NUMBER …]`.
//!
//! Each writes into the ledger what the harness must know of it: when it was born, and, before it does so, how it
//! is going to end. What they write into the ledger never passes through the program that is tested.

mod exits;
mod http;
mod lines;

use std::path::Path;

use anyhow::{Context as _, bail};
use clmgr::model::duration::Millis;
use clmgr::os::poll;

use crate::ledger::{Pen, Record};

/// Plays an app until it is told to end. Returns its exit code.
pub(crate) fn play(args: &[String]) -> anyhow::Result<u8> {
    let [role, folder, numbers @ ..] = args else {
        bail!("faults app ROLE FOLDER [NUMBER …]");
    };
    let number = |at: usize| -> anyhow::Result<u64> { Ok(numbers.get(at).context("a number is missing")?.parse()?) };
    let mut pen = Pen::open(Path::new(folder))?;
    match role.as_str() {
        "idle" => {
            pen.write(Record::Born)?;
            if std::env::var_os("CRASH").is_some() {
                pen.write(Record::Code(9))?;
                return Ok(9);
            }
            loop {
                poll::pause(Millis(3_600_000));
            }
        }
        "crash" => {
            pen.write(Record::Born)?;
            pen.write(Record::Code(3))?;
            Ok(3)
        }
        "exits" => exits::play(&mut pen, number(0)?),
        "lines" => lines::play(&mut pen, number(0)?),
        "http" => http::play(&mut pen),
        other => bail!("no such role: {other}"),
    }
}
