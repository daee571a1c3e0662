//! Every request is answered, but for the one case in which nobody could: its connection waited in the socket of an
//! instance that was ending, which had closed it, when keeper and daemon, who had it too, were killed at once.

use crate::checks::Known;
use crate::load::Failed;
use crate::report::Report;

/// Tells what else has failed.
pub(crate) fn check(known: &Known<'_>, report: &Report) {
    for failed in known.failed {
        if was_held_by_nobody(known, failed) {
            report.count("requests that nobody could answer", 1);
        } else {
            report.wrong("requests failed", 1, failed.what.clone());
        }
    }
}

/// Nobody had accepted its connection, and that was reset at the death of both.
fn was_held_by_nobody(known: &Known<'_>, failed: &Failed) -> bool {
    let mut deaths = known.outages.iter().filter(|out| out.both);
    failed.unaccepted && deaths.any(|out| failed.to >= out.from && failed.from <= out.to)
}
