//! Reading everything once, at the start.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};

use crate::model::env::EnvMap;
use crate::model::names::{AppId, RunId};
use crate::model::process::ProcessId;
use crate::model::spec::AppSpec;
use crate::model::time::WallTime;
use crate::store::error::is_damage;
use crate::store::state::{AppRow, LoadedState, RunRow, RuntimeRow};
use crate::store::write::{Tally, set_counter};

/// Run numbers given out between two writes of the counter.
pub(crate) const RUN_BLOCK: u64 = 1_000_000;

/// After an unclean end, events may have been streamed that were never written. Their numbers are not
/// used again. More than can ever wait in memory.
const EVENT_GAP: u64 = 10_000;

/// The state and what the writer must know of it.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) state: LoadedState,
    pub(crate) tally: Tally,
    /// What the user should be told.
    pub(crate) notes: Vec<String>,
}

pub(crate) fn load(connection: &Connection) -> Result<Loaded, rusqlite::Error> {
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Deferred)?;
    let mut notes = Vec::new();
    let mut hidden = HashSet::new();
    let apps = apps(&transaction, &mut |name, why| {
        notes.push(format!(
            "the app {name} in the state file cannot be read by this version ({why}); it is left as it is, start it again to replace it"
        ));
        hidden.insert(name.to_owned());
    })?;
    let highest: Option<u32> = transaction.query_row("SELECT max(id) FROM apps", [], |row| row.get(0))?;
    let next_app = counter(&transaction, "next_app")?.max(highest.map_or(1, |id| u64::from(id) + 1));
    let first_run = counter(&transaction, "next_run")?;
    let state = LoadedState {
        apps,
        runtime: runtime(&transaction)?,
        runs: runs(&transaction)?,
        next_app_id: AppId(u32::try_from(next_app).unwrap_or(u32::MAX)),
        first_run_id: RunId(first_run),
        last_event_seq: last_event(&transaction)?,
    };
    drop(transaction);
    // A full disk must not keep a daemon from coming back to its apps: the block is then reserved with
    // the first run that can be written.
    let reserved = match reserve(connection, first_run + RUN_BLOCK) {
        Ok(()) => first_run + RUN_BLOCK,
        Err(error) if is_damage(&error) => return Err(error),
        Err(error) => {
            notes.push(format!("the state can be read, but not written: {error}"));
            first_run
        }
    };
    Ok(Loaded {
        state,
        tally: Tally::new(reserved, hidden),
        notes,
    })
}

fn reserve(connection: &Connection, runs: u64) -> Result<(), rusqlite::Error> {
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    set_counter(&transaction, "next_run", runs)?;
    transaction.execute("DELETE FROM meta WHERE key = 'clean'", [])?;
    transaction.commit()
}

fn counter(connection: &Connection, name: &str) -> Result<u64, rusqlite::Error> {
    let value: Option<i64> = connection
        .query_row("SELECT value FROM counters WHERE name = ?1", [name], |row| row.get(0))
        .optional()?;
    Ok(value.map_or(1, |value| u64::try_from(value).unwrap_or(1)))
}

fn last_event(connection: &Connection) -> Result<u64, rusqlite::Error> {
    let written: Option<i64> = connection
        .query_row("SELECT seq FROM sqlite_sequence WHERE name = 'events'", [], |row| {
            row.get(0)
        })
        .optional()?;
    let clean = connection
        .query_row("SELECT 1 FROM meta WHERE key = 'clean'", [], |_| Ok(()))
        .optional()?;
    let written = written.map_or(0, |seq| u64::try_from(seq).unwrap_or(0));
    // A new file has no past to keep clear of.
    let begun = written > 0 || counter(connection, "next_run")? > 1;
    Ok(if clean.is_some() || !begun {
        written
    } else {
        written + EVENT_GAP
    })
}

fn apps(
    connection: &Connection,
    unreadable: &mut dyn FnMut(&str, &dyn std::fmt::Display),
) -> Result<Vec<AppRow>, rusqlite::Error> {
    let mut environments: HashMap<i64, Arc<EnvMap>> = HashMap::new();
    let mut statement = connection.prepare(
        "SELECT id, name, spec, environment_id, desired_instances, wanted = 'running', created_at, held
         FROM apps ORDER BY id",
    )?;
    let mut rows = statement.query([])?;
    let mut apps = Vec::new();
    while let Some(row) = rows.next()? {
        let name: String = row.get(1)?;
        let environment: i64 = row.get(3)?;
        let env_base = match environments.get(&environment) {
            Some(shared) => Arc::clone(shared),
            None => {
                let json: String =
                    connection.query_row("SELECT json FROM environments WHERE id = ?1", [environment], |row| {
                        row.get(0)
                    })?;
                match serde_json::from_str::<EnvMap>(&json) {
                    Ok(map) => {
                        let map = Arc::new(map);
                        environments.insert(environment, Arc::clone(&map));
                        map
                    }
                    Err(error) => {
                        unreadable(&name, &error);
                        continue;
                    }
                }
            }
        };
        match serde_json::from_str::<AppSpec>(row.get_ref(2)?.as_str()?) {
            Ok(spec) => apps.push(AppRow {
                id: AppId(row.get(0)?),
                spec: Arc::new(AppSpec { env_base, ..spec }),
                desired: row.get(4)?,
                wanted: row.get(5)?,
                created_at: WallTime(row.get(6)?),
                held: serde_json::from_str(row.get_ref(7)?.as_str()?).unwrap_or_default(),
            }),
            Err(error) => unreadable(&name, &error),
        }
    }
    Ok(apps)
}

fn runtime(connection: &Connection) -> Result<Vec<RuntimeRow>, rusqlite::Error> {
    let mut boots = Boots::default();
    connection
        .prepare("SELECT app_id, boot_id, json FROM app_runtime ORDER BY app_id")?
        .query_map([], |row| {
            Ok(RuntimeRow {
                app: AppId(row.get(0)?),
                boot: boots.share(row.get(1)?),
                json: row.get(2)?,
            })
        })?
        .collect()
}

fn runs(connection: &Connection) -> Result<Vec<RunRow>, rusqlite::Error> {
    let mut boots = Boots::default();
    connection
        .prepare("SELECT run, app_id, slot, pid, start_ticks, boot_id, started_at FROM runs ORDER BY run")?
        .query_map([], |row| {
            Ok(RunRow {
                run: RunId(row.get::<_, i64>(0)?.cast_unsigned()),
                app: AppId(row.get(1)?),
                slot: row.get(2)?,
                process: ProcessId {
                    pid: row.get(3)?,
                    start_ticks: row.get::<_, i64>(4)?.cast_unsigned(),
                    boot: boots.share(row.get(5)?),
                },
                started_at: WallTime(row.get(6)?),
            })
        })?
        .collect()
}

/// Equal boot ids are one text in memory.
#[derive(Default)]
struct Boots(HashSet<Arc<str>>);

impl Boots {
    fn share(&mut self, text: String) -> Arc<str> {
        if let Some(known) = self.0.get(text.as_str()) {
            return Arc::clone(known);
        }
        let text: Arc<str> = text.into();
        self.0.insert(Arc::clone(&text));
        text
    }
}
