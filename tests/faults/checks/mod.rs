//! What must be true when everything is over: the apps' own words against files, events and processes.

mod exits;
mod lines;
mod lives;
mod requests;
mod rollouts;
mod waits;

use clmgr::model::duration::Millis;
use clmgr::model::time::Moment;

use crate::chaos::Outage;
use crate::events::Events;
use crate::ledger::Entry;
use crate::load::Failed;
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
    /// The requests that failed.
    pub(crate) failed: &'a [Failed],
}

/// A process that began when keeper and daemon were about to die is known by what it carries itself. If it ends before
/// somebody looks for it, nobody can ever tell that it was there.
const UNSEEN: Millis = Millis(100);

impl Known<'_> {
    /// Who was born at this time and had ended by that other one can have been seen by nobody.
    fn is_unseen(&self, born: u64, ended: Option<u64>) -> bool {
        self.outages.iter().filter(|out| out.keeper).any(|out| {
            let about = Moment(born).after(UNSEEN) >= out.from && born <= out.to.0;
            about && ended.is_some_and(|at| at <= out.to.0)
        })
    }
}

/// All of it.
pub(crate) fn all(known: &Known<'_>, report: &Report) -> anyhow::Result<()> {
    requests::check(known, report);
    exits::check(known, report);
    lives::check(known, report);
    lines::check(known, report)?;
    rollouts::check(known, report);
    waits::check(known, report);
    Ok(())
}
