//! Bringing a file to today's schema. Migrations are numbered from 1, frozen, and plain SQL: they name
//! no type of this program. `PRAGMA user_version` is the number of the last one applied.
//!
//! One step back is always possible: what a migration leaves can be read and written by the version before it. A new
//! column has a default, nothing is renamed or removed, and a meaning that an old program does not know is kept apart
//! from those it does. `oldest_reader.<schema>` in `meta` says how far back that goes for a file; a program that knows less refuses
//! it and changes nothing.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};

use crate::store::error::StoreError;

/// This program's version, as it is written into the file.
pub(crate) use crate::model::version::version as program;

/// One step from a schema to the next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Migration {
    /// What is done.
    pub(crate) sql: &'static str,
    /// The oldest schema that a program must know to read and write the result: the one before, or older. So there
    /// is always a way back by one version.
    pub(crate) oldest_reader: i64,
}

/// In order; the position, counted from 1, is the schema's number.
pub(crate) const MIGRATIONS: &[Migration] = &[Migration {
    sql: include_str!("migrations/0001_begin.sql"),
    oldest_reader: 1,
}];

/// What a file says about its schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schema {
    /// The number of the last migration applied.
    pub number: i64,
    /// The oldest schema that a program must know to use the file.
    pub oldest_reader: i64,
}

/// The oldest schema that a program must know to use a file of this one's.
#[must_use]
pub fn oldest_reader() -> i64 {
    MIGRATIONS.last().map_or(0, |migration| migration.oldest_reader)
}

/// The newest schema known here.
#[must_use]
pub fn newest() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

/// What a file is, before anything in it was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing in it.
    Empty,
    /// One of ours, of this schema.
    Schema(Schema),
    /// Readable, but its version or `meta` table is not as we would have left it.
    Strange,
}

/// Under which key a file says who can read its schema. What it says of another schema does not count.
pub(crate) fn oldest_key(schema: i64) -> String {
    format!("oldest_reader.{schema}")
}

/// Looks, and refuses a schema that this program is too old for.
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
    let oldest = connection
        .query_row("SELECT value FROM meta WHERE key = ?1", [oldest_key(version)], |row| {
            row.get::<_, String>(0)
        })
        .optional();
    let schema = Schema {
        number: version,
        // A file that does not say needs a program that knows it.
        oldest_reader: oldest
            .ok()
            .flatten()
            .and_then(|text| text.parse().ok())
            .unwrap_or(version),
    };
    if schema.oldest_reader > newest() {
        return Err(StoreError::Newer {
            path: path.to_owned(),
            found: version,
            known: newest(),
            written_by: written_by
                .ok()
                .flatten()
                .unwrap_or_else(|| "of a later version".to_owned()),
            ours: program().to_owned(),
        });
    }
    match written_by {
        Ok(Some(_)) if version > 0 => Ok(Found::Schema(schema)),
        Err(error) if crate::store::error::is_damage(&error) => Err(open(error)),
        Ok(_) | Err(_) => Ok(Found::Strange),
    }
}

/// Applies what is missing, each migration in a transaction of its own.
pub(crate) fn migrate(connection: &Connection, from: i64) -> Result<(), rusqlite::Error> {
    for (number, migration) in (1_i64..).zip(MIGRATIONS).filter(|(number, _)| *number > from) {
        let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
        transaction.execute_batch(migration.sql)?;
        let oldest = migration.oldest_reader.to_string();
        for (key, value) in [("written_by", program()), (&oldest_key(number), &oldest)] {
            transaction.execute(
                "INSERT INTO meta (key, value) VALUES (?1, ?2)
                 ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                [key, value],
            )?;
        }
        transaction.execute_batch(&format!("PRAGMA user_version = {number}"))?;
        transaction.commit()?;
    }
    Ok(())
}
