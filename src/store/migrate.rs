//! Bringing a file to today's schema. Migrations are numbered from 1, frozen, and plain SQL: they name
//! no type of this program. `PRAGMA user_version` is the number of the last one applied.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};

use crate::store::error::StoreError;

/// This program's version, as it is written into the file.
pub(crate) const PROGRAM: &str = env!("CARGO_PKG_VERSION");

/// In order; the position, counted from 1, is the schema's number.
pub(crate) const MIGRATIONS: &[&str] = &[include_str!("migrations/0001_begin.sql")];

/// The newest schema known here.
pub(crate) fn newest() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

/// What a file is, before anything in it was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing in it.
    Empty,
    /// One of ours, of this schema.
    Schema(i64),
    /// Readable, but its version or `meta` table is not as we would have left it.
    Strange,
}

/// Looks, and refuses a newer schema.
pub(crate) fn inspect(connection: &Connection, path: &Path) -> Result<Found, StoreError> {
    let open = |source| StoreError::Open {
        path: path.to_owned(),
        operation: "read the schema version",
        source,
    };
    let version: i64 = connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(open)?;
    let objects: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(open)?;
    if version == 0 && objects == 0 {
        return Ok(Found::Empty);
    }
    let written_by = connection
        .query_row("SELECT value FROM meta WHERE key = 'written_by'", [], |row| {
            row.get::<_, String>(0)
        })
        .optional();
    if version > newest() {
        return Err(StoreError::Newer {
            path: path.to_owned(),
            found: version,
            known: newest(),
            written_by: written_by
                .ok()
                .flatten()
                .unwrap_or_else(|| "of a later version".to_owned()),
            ours: PROGRAM.to_owned(),
        });
    }
    match written_by {
        Ok(Some(_)) if version > 0 => Ok(Found::Schema(version)),
        Err(error) if crate::store::error::is_damage(&error) => Err(open(error)),
        Ok(_) | Err(_) => Ok(Found::Strange),
    }
}

/// Applies what is missing, each migration in a transaction of its own.
pub(crate) fn migrate(connection: &Connection, from: i64) -> Result<(), rusqlite::Error> {
    for (number, sql) in (1_i64..).zip(MIGRATIONS).filter(|(number, _)| *number > from) {
        let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
        transaction.execute_batch(sql)?;
        transaction.execute(
            "INSERT INTO meta (key, value) VALUES ('written_by', ?1)
             ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            [PROGRAM],
        )?;
        transaction.execute_batch(&format!("PRAGMA user_version = {number}"))?;
        transaction.commit()?;
    }
    Ok(())
}
