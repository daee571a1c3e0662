//! Writes numbered lines in bursts, each as fast as the pipe takes it.

use std::fmt::Write as _;
use std::io::Write as _;

use clmgr::model::duration::Millis;
use clmgr::os::poll;
use clmgr::os::signals::Signals;

use crate::ledger::{Pen, Record};

/// Lines of a burst: about ten times what a pipe holds.
const BURST: u64 = 20_000;

/// Writes this many lines a second on average; on SIGTERM it says how many there were.
pub(crate) fn play(pen: &mut Pen, rate: u64) -> anyhow::Result<u8> {
    let signals = Signals::block(&[15])?;
    pen.write(Record::Born)?;
    let mut out = std::io::stdout().lock();
    let mut text = String::new();
    let mut number = 0_u64;
    loop {
        for _ in 0..BURST / 100 {
            text.clear();
            for _ in 0..100 {
                writeln!(text, "{number} {:0width$}", 0, width = usize::try_from(number % 50)?)?;
                number += 1;
            }
            out.write_all(text.as_bytes())?;
        }
        out.flush()?;
        if poll::readable(&signals, Millis(BURST * 1000 / rate.max(1)))? {
            pen.write(Record::Wrote(number))?;
            return Ok(0);
        }
    }
}
