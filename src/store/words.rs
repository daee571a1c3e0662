//! How much room apps' last words may take, whatever they write and however often they crash.
//!
//! A crash is kept with all of its last words (64 KiB), the newest 20 of each app; all of them together have
//! [`MAX_CRASH_WORDS`]. Events are kept much longer, so the older of them lose their words first: the newest that fit
//! into [`MAX_EVENT_WORDS`] have them.

use rusqlite::Connection;

use crate::model::words::BRIEF;
use crate::store::state::Note;

/// Most bytes of last words in crashes, all apps together.
pub(crate) const MAX_CRASH_WORDS: usize = 16 << 20;
/// Most bytes of events that have last words, all apps together.
pub(crate) const MAX_EVENT_WORDS: usize = 8 << 20;
/// Most bytes of last words in notes that wait for a disk that cannot be written.
pub(crate) const MAX_WAITING_WORDS: usize = 2 << 20;
/// Bytes written until it is looked whether there are too many: the bounds are passed by that at most.
const STEP: usize = 1 << 20;

/// The last words of a note, in bytes.
pub(crate) fn length(note: &Note) -> usize {
    let lines = match note {
        Note::Event(event) => &event.stderr,
        Note::Crash { crash, .. } => &crash.stderr,
        Note::Runtime(_) | Note::RunStarted(_) | Note::RunEnded { .. } => return 0,
    };
    lines.iter().map(String::len).sum()
}

/// Counts the last words of these notes; true if it is time for [`prune`].
pub(crate) fn is_due(written: &mut usize, notes: impl Iterator<Item = usize>) -> bool {
    *written = written.saturating_add(notes.sum());
    let due = *written >= STEP;
    if due {
        *written = 0;
    }
    due
}

/// So many bytes count as written before anything was: an earlier daemon may have ended before it looked.
pub(crate) const UNKNOWN: usize = STEP - BRIEF;

/// Keeps to the bounds.
pub(crate) fn prune(connection: &Connection) -> Result<(), rusqlite::Error> {
    let crashes = "SELECT id, length(CAST(stderr AS BLOB)) FROM crashes ORDER BY id DESC";
    if let Some(last) = beyond(connection, crashes, MAX_CRASH_WORDS)? {
        connection.execute("DELETE FROM crashes WHERE id <= ?1", [last])?;
    }
    let events = "SELECT seq, length(CAST(json AS BLOB)) FROM events
                  WHERE json_extract(json, '$.stderr') IS NOT NULL ORDER BY seq DESC";
    if let Some(last) = beyond(connection, events, MAX_EVENT_WORDS)? {
        connection.execute(
            "UPDATE events SET json = json_remove(json, '$.stderr')
             WHERE seq <= ?1 AND json_extract(json, '$.stderr') IS NOT NULL",
            [last],
        )?;
    }
    Ok(())
}

/// The first row, in the query's order, that does not fit any more.
fn beyond(connection: &Connection, query: &str, most: usize) -> Result<Option<i64>, rusqlite::Error> {
    let mut statement = connection.prepare_cached(query)?;
    let mut rows = statement.query([])?;
    let mut sum = 0_usize;
    while let Some(row) = rows.next()? {
        sum = sum.saturating_add(usize::try_from(row.get::<_, i64>(1)?).unwrap_or(usize::MAX));
        if sum > most {
            return row.get(0).map(Some);
        }
    }
    Ok(None)
}
