//! Notes: how they are thinned out while they wait, and how they are written.

use std::collections::{HashMap, HashSet, VecDeque};

use rusqlite::{Connection, params};

use crate::model::names::{AppId, RunId};
use crate::store::error::is_refusal;
use crate::store::load::RUN_BLOCK;
use crate::store::state::Note;
use crate::store::words::{self, MAX_WAITING_WORDS};
use crate::store::write::{MAX_CRASHES, MAX_EVENTS, PRUNE_STEP, Tally, integer, set_counter};

/// Most events that wait in memory; the oldest beyond it are lost.
pub(crate) const MAX_WAITING_EVENTS: usize = 4096;

/// Drops what later entries make needless: older runtime of the same app, runs that began and ended,
/// crashes beyond the newest [`MAX_CRASHES`] of an app, and the oldest events beyond
/// [`MAX_WAITING_EVENTS`]. Returns how many events were lost.
///
/// Only ever an *earlier* note goes, so whatever order notes have with other entries stays true.
pub(crate) fn thin_out<T>(waiting: &mut VecDeque<T>, note_of: impl Fn(&T) -> Option<&Note>) -> u64 {
    let mut runtime: HashSet<AppId> = HashSet::new();
    let mut ended: HashMap<RunId, usize> = HashMap::new();
    let mut crashes: HashMap<AppId, u32> = HashMap::new();
    let mut crash_words = 0;
    let mut events = 0;
    let mut lost = 0;
    let mut keep = vec![true; waiting.len()];
    for at in (0..waiting.len()).rev() {
        let Some(note) = note_of(&waiting[at]) else { continue };
        match note {
            Note::Runtime(row) => keep[at] = runtime.insert(row.app),
            Note::RunEnded { run } => {
                ended.insert(*run, at);
            }
            Note::RunStarted(row) => {
                if let Some(end) = ended.remove(&row.run) {
                    keep[at] = false;
                    keep[end] = false;
                }
            }
            Note::Crash { app, .. } => {
                let count = crashes.entry(*app).or_default();
                *count += 1;
                crash_words += words::length(note);
                keep[at] = *count <= MAX_CRASHES && crash_words <= MAX_WAITING_WORDS;
            }
            Note::Event(_) => {
                events += 1;
                if events > MAX_WAITING_EVENTS {
                    keep[at] = false;
                    lost += 1;
                }
            }
        }
    }
    let mut at = 0;
    waiting.retain(|_| {
        at += 1;
        keep[at - 1]
    });
    lost
}

/// Writes the notes in order. A note that SQLite refuses for its content (its app is gone) is left out.
pub(crate) fn write(connection: &Connection, notes: &VecDeque<Note>, tally: &mut Tally) -> Result<(), rusqlite::Error> {
    let mut reserved = tally.reserved_runs;
    let mut events = tally.events;
    for note in notes {
        match write_one(connection, note) {
            Err(error) if !is_refusal(&error) => return Err(error),
            Ok(()) | Err(_) => {}
        }
        match note {
            Note::RunStarted(row) if tally.is_near_end(row.run.0) => reserved = reserved.max(row.run.0 + RUN_BLOCK),
            Note::Event(_) => events += 1,
            Note::RunStarted(_) | Note::Runtime(_) | Note::RunEnded { .. } | Note::Crash { .. } => {}
        }
    }
    if reserved > tally.reserved_runs {
        set_counter(connection, "next_run", reserved)?;
    }
    if events >= PRUNE_STEP {
        connection.execute(
            "DELETE FROM events WHERE seq <= (SELECT seq FROM events ORDER BY seq DESC LIMIT 1 OFFSET ?1)",
            [MAX_EVENTS - PRUNE_STEP],
        )?;
        events = 0;
    }
    let mut written = tally.words;
    if words::is_due(&mut written, notes.iter().map(words::length)) {
        words::prune(connection)?;
    }
    tally.reserved_runs = reserved;
    tally.events = events;
    tally.words = written;
    Ok(())
}

fn write_one(connection: &Connection, note: &Note) -> Result<(), rusqlite::Error> {
    match note {
        Note::Runtime(row) => connection
            .prepare_cached(
                "INSERT INTO app_runtime (app_id, boot_id, json) VALUES (?1, ?2, ?3)
                 ON CONFLICT (app_id) DO UPDATE SET boot_id = excluded.boot_id, json = excluded.json",
            )?
            .execute(params![row.app.0, row.boot, row.json])?,
        Note::RunStarted(row) => connection
            .prepare_cached(
                "INSERT OR REPLACE INTO runs (run, app_id, slot, pid, start_ticks, boot_id, started_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![
                integer(row.run.0),
                row.app.0,
                row.slot,
                row.process.pid,
                integer(row.process.start_ticks),
                row.process.boot,
                row.started_at.0
            ])?,
        Note::RunEnded { run } => connection
            .prepare_cached("DELETE FROM runs WHERE run = ?1")?
            .execute([integer(run.0)])?,
        Note::Event(event) => connection
            .prepare_cached(
                "INSERT OR REPLACE INTO events (seq, at, kind, app, slot, pid, json) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![
                integer(event.seq),
                event.at.0,
                event.kind.as_str(),
                event.app.as_ref().map(|name| name.as_str()),
                event.slot,
                event.pid,
                json(event)?
            ])?,
        Note::Crash { app, crash } => {
            connection
                .prepare_cached(
                    "INSERT INTO crashes (app_id, at, slot, pid, uptime_ms, exit, stderr)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                )?
                .execute(params![
                    app.0,
                    crash.at.0,
                    crash.slot,
                    crash.pid,
                    integer(crash.uptime_ms),
                    json(&crash.exit)?,
                    json(&crash.stderr)?
                ])?;
            connection
                .prepare_cached(
                    "DELETE FROM crashes WHERE app_id = ?1 AND id <=
                         (SELECT id FROM crashes WHERE app_id = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
                )?
                .execute([app.0, MAX_CRASHES])?
        }
    };
    Ok(())
}

fn json<T: serde::Serialize>(value: &T) -> Result<String, rusqlite::Error> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}
