//! `balance = "sticky"`: an address stays with its worker.

use super::BUSY;
use super::side::{Side, Who, addresses};
use crate::bed::Bed;
use crate::load::Pattern;
use crate::table::{Limit, Row};

/// Connections from 200 addresses.
pub(crate) fn sticky(bed: &Bed) -> anyhow::Result<Vec<Row>> {
    let side = Side::start(bed, Who::Clmgr("sticky"), &[])?;
    let (_, time) = bed.rounds();
    let tally = side.load(Pattern::Close(BUSY), time, &addresses())?;
    let name = "sticky: connections of an address on one worker";
    let workers = crate::load::variation(&tally.workers(), super::WORKERS);
    Ok(vec![
        Row::share(name, tally.faithful(), Limit::NoLess(1.0)),
        Row::share("sticky: variation over workers, 200 addresses", workers, Limit::None),
    ])
}
