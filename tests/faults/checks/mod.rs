//! What must be true when everything is over: the apps' own words against files, events and processes.

mod exits;
mod lines;
mod lives;
mod rollouts;
mod waits;

use crate::chaos::Outage;
use crate::events::Events;
use crate::ledger::Entry;
use crate::report::Report;
use crate::world::World;

/// What is known at the end.
pub(crate) struct Known<'a> {
    /// The home, in which nothing runs any more.
    pub(crate) world: &'a World,
    /// The event log.
    pub(crate) events: &'a Events,
    /// What the apps said.
    pub(crate) ledger: &'a [Entry],
    /// When no daemon lived.
    pub(crate) outages: &'a [Outage],
}

/// All of it.
pub(crate) fn all(known: &Known<'_>, report: &Report) -> anyhow::Result<()> {
    exits::check(known, report);
    lives::check(known, report);
    lines::check(known, report)?;
    rollouts::check(known, report);
    waits::check(known, report);
    Ok(())
}
