//! `balance = "sticky"`: an address stays with its worker.

use std::net::Ipv4Addr;

use super::BUSY;
use super::side::{Side, Who};
use crate::bed::Bed;
use crate::load::Pattern;
use crate::table::{Limit, Row};

/// Connections from 200 addresses.
pub(crate) fn sticky(bed: &Bed) -> anyhow::Result<Vec<Row>> {
    let side = Side::start(bed, Who::Clmgr("sticky"), &[])?;
    let from: Vec<Ipv4Addr> = (1..=200).map(|last| Ipv4Addr::new(127, 1, 0, last)).collect();
    let (_, time) = bed.rounds();
    let tally = side.load(Pattern::Close(BUSY), time, &from)?;
    let name = "sticky: connections of an address on one worker";
    let workers = crate::load::variation(&tally.workers(), super::WORKERS);
    Ok(vec![
        Row::share(name, tally.faithful(), Limit::NoLess(1.0)),
        Row::share("sticky: variation over workers, 200 addresses", workers, Limit::None),
    ])
}
