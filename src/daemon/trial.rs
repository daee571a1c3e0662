//! A daemon that takes over from another build proves itself before it touches anything: it must know the same apps
//! and every process that lives.

use std::collections::BTreeSet;

use crate::daemon::Daemon;
use crate::keeper::protocol::Seen;
use crate::model::names::RunId;
use crate::supervise::app::App;

/// FNV-1a.
const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0100_0000_01b3;

impl Daemon {
    /// What this daemon knows. Only what every build writes in the same way goes into the digest.
    pub(crate) fn seen(&self) -> Seen {
        let apps: Vec<&App> = self.core.apps.values().filter(|app| !app.deleting).collect();
        let wanted = apps.iter().fold(BASIS, |hash, app| {
            let held: Vec<String> = app.held.iter().map(ToString::to_string).collect();
            let line = format!(
                "{} {} {} {} {}\n",
                app.id,
                app.name(),
                app.desired,
                app.wanted,
                held.join(",")
            );
            line.bytes()
                .fold(hash, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME))
        });
        let living = self.handles.iter().filter(|(_, handle)| handle.exit.is_none());
        let owned = living.filter(|(run, _)| self.core.owner(**run).is_some_and(|app| !app.deleting));
        Seen {
            apps: u32::try_from(apps.len()).unwrap_or(u32::MAX),
            wanted,
            runs: owned.map(|(run, _)| run.0).collect(),
        }
    }

    /// Compares what was loaded with what the daemon before saw. `living` are the runs that the keeper has.
    pub(crate) fn compare(&self, before: &Seen, living: &BTreeSet<RunId>) -> Result<(), String> {
        let now = self.seen();
        if (now.apps, now.wanted) != (before.apps, before.wanted) {
            return Err(format!(
                "it reads another state: {} apps with digest {:x}, where the daemon before had {} with {:x}",
                now.apps, now.wanted, before.apps, before.wanted
            ));
        }
        let runs = before.runs.iter().map(|run| RunId(*run));
        let strange = runs
            .filter(|run| living.contains(run) && self.core.owner(*run).is_none())
            .count();
        if strange > 0 {
            return Err(format!(
                "it does not recognise {strange} of {} living processes",
                before.runs.len()
            ));
        }
        Ok(())
    }
}
