//! Changes and notes as SQL. Everything here runs inside a transaction of the caller.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};

use crate::model::env::EnvMap;
use crate::model::spec::AppSpec;
use crate::store::error::StoreError;
use crate::store::load::RUN_BLOCK;
use crate::store::state::{AppRow, Change, Desired};
use crate::store::words;

/// Most events kept.
pub(crate) const MAX_EVENTS: u32 = 10_000;
/// Pruning goes this far below [`MAX_EVENTS`], so that it is needed only now and then.
pub(crate) const PRUNE_STEP: u32 = 500;
/// Most crashes kept per app.
pub(crate) const MAX_CRASHES: u32 = 20;

/// What the writer remembers between transactions.
#[derive(Debug)]
pub(crate) struct Tally {
    /// Run numbers below this are reserved in the file.
    pub(crate) reserved_runs: u64,
    /// Events written since the last pruning.
    pub(crate) events: u32,
    /// Bytes of last words written since they were last pruned.
    pub(crate) words: usize,
    /// Names of apps in the file that this version cannot read; a new app of that name replaces them.
    hidden: HashSet<String>,
}

impl Tally {
    pub(crate) fn new(reserved_runs: u64, hidden: HashSet<String>) -> Self {
        Self {
            reserved_runs,
            // An earlier daemon may have ended just before it pruned.
            events: PRUNE_STEP,
            words: words::UNKNOWN,
            hidden,
        }
    }

    /// True if this run's number comes near the end of the reserved block.
    pub(crate) const fn is_near_end(&self, run: u64) -> bool {
        run.saturating_add(RUN_BLOCK / 2) > self.reserved_runs
    }
}

pub(crate) fn set_counter(connection: &Connection, name: &str, value: u64) -> Result<(), rusqlite::Error> {
    connection
        .prepare_cached(
            "INSERT INTO counters (name, value) VALUES (?1, ?2)
             ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)",
        )?
        .execute(params![name, integer(value)])?;
    Ok(())
}

/// SQLite's integers are signed. Nothing here ever comes near the limit.
pub(crate) fn integer(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Applies the changes in order.
pub(crate) fn apply(connection: &Connection, changes: &[Change], tally: &Tally) -> Result<(), StoreError> {
    let failed = |source| StoreError::sqlite("write", source);
    let mut environments = Environments::default();
    for change in changes {
        match change {
            Change::PutApps(apps) => {
                for app in apps {
                    put_app(connection, app, &mut environments, tally)?;
                }
                if let Some(highest) = apps.iter().map(|app| app.id.0).max() {
                    set_counter(connection, "next_app", u64::from(highest) + 1).map_err(failed)?;
                }
            }
            Change::DeleteApps(ids) => {
                let mut delete = connection
                    .prepare_cached("DELETE FROM apps WHERE id = ?1")
                    .map_err(failed)?;
                for id in ids {
                    delete.execute([id.0]).map_err(failed)?;
                }
            }
            Change::SetDesired(apps) => set_desired(connection, apps)?,
        }
    }
    connection
        .prepare_cached("DELETE FROM environments WHERE id NOT IN (SELECT environment_id FROM apps)")
        .and_then(|mut delete| delete.execute([]))
        .map_err(failed)?;
    Ok(())
}

fn put_app(
    connection: &Connection,
    app: &AppRow,
    environments: &mut Environments,
    tally: &Tally,
) -> Result<(), StoreError> {
    let failed = |source| StoreError::sqlite("write", source);
    let name = app.spec.name.as_str();
    if tally.hidden.contains(name) {
        connection
            .execute("DELETE FROM apps WHERE name = ?1 AND id <> ?2", params![name, app.id.0])
            .map_err(failed)?;
    }
    let environment = environments.id_of(connection, &app.spec.env_base)?;
    let bare = AppSpec {
        env_base: Arc::default(),
        ..AppSpec::clone(&app.spec)
    };
    let spec = serde_json::to_string(&bare).map_err(StoreError::Encode)?;
    let wanted = if app.wanted { "running" } else { "stopped" };
    let held = serde_json::to_string(&app.held).map_err(StoreError::Encode)?;
    connection
        .prepare_cached(
            "INSERT INTO apps (id, name, spec, environment_id, desired_instances, wanted, created_at, held)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT (id) DO UPDATE SET name = excluded.name, spec = excluded.spec,
                 environment_id = excluded.environment_id, desired_instances = excluded.desired_instances,
                 wanted = excluded.wanted, created_at = excluded.created_at, held = excluded.held",
        )
        .and_then(|mut put| {
            put.execute(params![
                app.id.0,
                name,
                spec,
                environment,
                app.desired,
                wanted,
                app.created_at.0,
                held
            ])
        })
        .map_err(failed)?;
    Ok(())
}

fn set_desired(connection: &Connection, apps: &[Desired]) -> Result<(), StoreError> {
    let failed = |source| StoreError::sqlite("write", source);
    let mut update = connection
        .prepare_cached("UPDATE apps SET desired_instances = ?2, wanted = ?3, held = ?4 WHERE id = ?1")
        .map_err(failed)?;
    for (id, desired, wanted, held) in apps {
        let wanted = if *wanted { "running" } else { "stopped" };
        let held = serde_json::to_string(held).map_err(StoreError::Encode)?;
        if update.execute(params![id.0, desired, wanted, held]).map_err(failed)? == 0 {
            return Err(StoreError::UnknownApp(*id));
        }
    }
    Ok(())
}

/// The ids of environments already met in this commit, by address: hundreds of apps share one.
#[derive(Default)]
struct Environments(HashMap<*const EnvMap, i64>);

impl Environments {
    fn id_of(&mut self, connection: &Connection, env: &Arc<EnvMap>) -> Result<i64, StoreError> {
        let failed = |source| StoreError::sqlite("write", source);
        if let Some(id) = self.0.get(&Arc::as_ptr(env)) {
            return Ok(*id);
        }
        let json = serde_json::to_string(env.as_ref()).map_err(StoreError::Encode)?;
        let digest = digest(json.as_bytes());
        let known = connection
            .prepare_cached("SELECT id FROM environments WHERE digest = ?1 AND json = ?2")
            .and_then(|mut find| find.query_row(params![digest, json], |row| row.get(0)).optional())
            .map_err(failed)?;
        let id = match known {
            Some(id) => id,
            None => connection
                .prepare_cached("INSERT INTO environments (digest, json) VALUES (?1, ?2)")
                .and_then(|mut insert| insert.insert(params![digest, json]))
                .map_err(failed)?,
        };
        self.0.insert(Arc::as_ptr(env), id);
        Ok(id)
    }
}

/// FNV-1a, 64 bits: it only has to be the same in every version of the program.
fn digest(bytes: &[u8]) -> i64 {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash.cast_signed()
}
