//! The state was damaged. What lives is kept, whatever a backup (or nothing) says of it.
//!
//! ```text
//!   children of the keeper ──┐
//!   leaders with our mark ───┴▶ survivors ──▶ the app of that id or name: made to want them
//!                                        └──▶ unknown: an app made of what /proc tells
//! ```
//!
//! Every process of an app carries `CLMGR_RUN`, `CLMGR_APP` and `CLMGR_SLOT`: together with its command line, working
//! folder and environment that is enough to go on with it under its name.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use crate::daemon::recover::Table;
use crate::daemon::runs::{Label, is_helper};
use crate::daemon::spawning::{LEADER, MARKER, PLACE};
use crate::model::env::EnvMap;
use crate::model::names::{AppId, AppName, RunId, Slot};
use crate::model::spec::AppSpec;
use crate::model::time::WallTime;
use crate::os::{clock, procfs};
use crate::store::{AppRow, Change, LoadedState, RunRow, Store};

/// What every run gets anew.
const OURS: [&str; 5] = [MARKER, PLACE, LEADER, "CLMGR_APP", "CLMGR_SLOT"];

/// A leader that lives.
#[derive(Debug)]
struct Survivor {
    run: RunId,
    pid: i32,
    slot: Slot,
    /// As the keeper's label has it.
    app: Option<AppId>,
    name: Option<AppName>,
}

/// Gives everything that lives a place in the state, and writes it.
pub(crate) fn salvage(store: &Store, state: &mut LoadedState, table: &mut Table, home_tag: &str) {
    let now = clock::wall();
    // Whatever was remembered of runs belongs to another day.
    state.runtime.clear();
    let mut changed = BTreeSet::new();
    for survivor in survivors(table, home_tag) {
        let Some(id) = place(state, &survivor, now) else {
            tracing::warn!(pid = survivor.pid, "nothing is known of a process that lives");
            continue;
        };
        changed.insert(id);
        state.first_run_id = state.first_run_id.max(RunId(survivor.run.0 + 1));
        let label = Label {
            app: Some(id),
            slot: survivor.slot,
            generation: 0,
            second: false,
        };
        if !table.relabel(survivor.run, &label)
            && let Some(process) = procfs::identity(survivor.pid)
        {
            state.runs.retain(|row| row.run != survivor.run);
            state.runs.push(RunRow {
                run: survivor.run,
                app: id,
                slot: survivor.slot,
                process,
                started_at: now,
            });
        }
    }
    let rows = state.apps.iter().filter(|row| changed.contains(&row.id));
    // What cannot be written now is written with the next change of the app.
    store.commit(vec![Change::PutApps(rows.cloned().collect())], Box::new(|_| {}));
}

fn survivors(table: &Table, home_tag: &str) -> Vec<Survivor> {
    let mut found: Vec<Survivor> = table
        .living()
        .filter(|(run, ..)| !is_helper(*run))
        .filter_map(|(run, pid, label)| {
            let label: Label = serde_json::from_slice(label).ok()?;
            let environ = procfs::environ(pid).unwrap_or_default();
            Some(Survivor {
                run,
                pid,
                slot: label.slot,
                app: label.app,
                name: text(&environ, "CLMGR_APP"),
            })
        })
        .collect();
    let known: BTreeSet<i32> = found.iter().map(|survivor| survivor.pid).collect();
    // The keeper may be a new one that knows nobody.
    for pid in procfs::all_pids().into_iter().filter(|pid| !known.contains(pid)) {
        let leads = procfs::stat(pid).is_some_and(|stat| stat.session == pid && !stat.is_dead());
        if !leads {
            continue;
        }
        let environ = procfs::environ(pid).unwrap_or_default();
        let run = text::<String>(&environ, MARKER)
            .and_then(|mark| mark.strip_prefix(home_tag)?.strip_prefix('.')?.parse().ok());
        if let (Some(run), Some(slot), Some(name)) = (run, text(&environ, "CLMGR_SLOT"), text(&environ, "CLMGR_APP"))
            && table.exit_of(RunId(run)).is_none()
        {
            found.push(Survivor {
                run: RunId(run),
                pid,
                slot,
                app: None,
                name: Some(name),
            });
        }
    }
    // The newest of a slot is the one in service.
    found.sort_by_key(|survivor| std::cmp::Reverse(survivor.run));
    found
}

fn text<T: std::str::FromStr>(environ: &[u8], name: &str) -> Option<T> {
    procfs::variable(environ, name)?.to_str()?.parse().ok()
}

/// The app that a survivor belongs to, which wants it from now on.
fn place(state: &mut LoadedState, survivor: &Survivor, now: WallTime) -> Option<AppId> {
    let by_name = |row: &&mut AppRow| survivor.name.as_ref().is_some_and(|name| row.spec.name == *name);
    if let Some(row) = state.apps.iter_mut().find(by_name) {
        row.desired = row.desired.max(survivor.slot + 1);
        row.wanted = true;
        row.held.retain(|slot| *slot != survivor.slot);
        return Some(row.id);
    }
    let taken = |id: AppId| state.apps.iter().any(|row| row.id == id);
    let id = survivor.app.filter(|id| !taken(*id)).unwrap_or(state.next_app_id);
    let row = AppRow {
        id,
        spec: Arc::new(spec(survivor, id)?),
        desired: survivor.slot + 1,
        wanted: true,
        held: Vec::new(),
        created_at: now,
    };
    state.next_app_id = state.next_app_id.max(AppId(id.0 + 1));
    state.apps.push(row);
    Some(id)
}

/// What can be told of an app by one of its processes. How it restarts, becomes ready and stops is not known any more:
/// the defaults are.
fn spec(survivor: &Survivor, id: AppId) -> Option<AppSpec> {
    let name = match &survivor.name {
        Some(name) => name.clone(),
        None => format!("recovered-{id}").parse().ok()?,
    };
    let argv: Vec<_> = procfs::arguments(survivor.pid)?.into_iter().map(Into::into).collect();
    let mut env = EnvMap::new();
    for entry in procfs::environ(survivor.pid)?.split(|byte| *byte == 0) {
        if let Some(at) = entry.iter().position(|byte| *byte == b'=')
            && let Ok(name) = std::str::from_utf8(&entry[..at])
            && !name.is_empty()
            && !OURS.contains(&name)
        {
            env.insert(
                name.to_owned(),
                std::ffi::OsStr::from_bytes(&entry[at + 1..]).to_owned().into(),
            );
        }
    }
    Some(AppSpec {
        instances: survivor.slot + 1,
        env_base: Arc::new(env),
        ..AppSpec::new(name, argv, procfs::cwd(survivor.pid)?.into())
    })
}
