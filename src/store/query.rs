//! What can be asked while the store is open.

use rusqlite::{Connection, params};

use crate::api::status::Crash;
use crate::model::event::{Event, EventKind};
use crate::model::names::{AppId, AppName};
use crate::model::time::WallTime;
use crate::store::error::StoreError;
use crate::store::write::integer;

/// Which events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventQuery {
    /// Not before this.
    pub since: Option<WallTime>,
    /// Only with a larger sequence number.
    pub after_seq: Option<u64>,
    /// Of these apps; of all, and of none, if empty.
    pub apps: Vec<AppName>,
    /// Of these kinds; of all if empty.
    pub kinds: Vec<EventKind>,
    /// At most so many; all if `None`. With `newest_first` these are the newest, otherwise the oldest.
    pub limit: Option<u32>,
    /// Newest first; otherwise oldest first.
    pub newest_first: bool,
}

impl EventQuery {
    /// True for an event that is asked for, the limit aside.
    fn wants(&self, event: &Event) -> bool {
        let of_app = |apps: &[AppName]| event.app.as_ref().is_some_and(|app| apps.contains(app));
        self.after_seq.is_none_or(|seq| event.seq > seq)
            && self.since.is_none_or(|since| event.at >= since)
            && (self.apps.is_empty() || of_app(&self.apps))
            && (self.kinds.is_empty() || self.kinds.contains(&event.kind))
    }

    /// What was found in the file, with those of `later` events (oldest first) that are asked for, too.
    pub(crate) fn with<'e>(&self, mut found: Vec<Event>, later: impl Iterator<Item = &'e Event>) -> Vec<Event> {
        let later = later.filter(|event| self.wants(event)).cloned();
        let limit = self.limit.map_or(usize::MAX, |limit| limit as usize);
        if self.newest_first {
            let mut all: Vec<Event> = later.collect();
            all.reverse();
            all.append(&mut found);
            found = all;
        } else {
            found.extend(later);
        }
        found.truncate(limit);
        found
    }
}

pub(crate) fn events(connection: &Connection, query: &EventQuery) -> Result<Vec<Event>, StoreError> {
    let failed = |source| StoreError::sqlite("read events from", source);
    let order = if query.newest_first { "DESC" } else { "ASC" };
    let of_apps = if query.apps.is_empty() {
        ""
    } else {
        "AND app IN (SELECT value FROM json_each(?3))"
    };
    let of_kinds = if query.kinds.is_empty() {
        ""
    } else {
        "AND kind IN (SELECT value FROM json_each(?4))"
    };
    let sql = format!(
        "SELECT json FROM events
         WHERE seq > ?1 AND at >= ?2 AND ?3 IS NOT NULL AND ?4 IS NOT NULL {of_apps} {of_kinds}
         ORDER BY seq {order} LIMIT ?5"
    );
    let after = integer(query.after_seq.unwrap_or(0));
    let since = query.since.map_or(i64::MIN, |since| since.0);
    let apps = serde_json::to_string(&query.apps).map_err(StoreError::Encode)?;
    let kinds = serde_json::to_string(&query.kinds).map_err(StoreError::Encode)?;
    let limit = query.limit.map_or(-1, i64::from);
    let mut statement = connection.prepare_cached(&sql).map_err(failed)?;
    let mut rows = statement
        .query(params![after, since, apps, kinds, limit])
        .map_err(failed)?;
    let mut events = Vec::new();
    while let Some(row) = rows.next().map_err(failed)? {
        let text = row.get_ref(0).map_err(failed)?;
        // A kind that only a newer version knows is left out.
        if let Some(event) = text.as_str().ok().and_then(|text| serde_json::from_str(text).ok()) {
            events.push(event);
        }
    }
    Ok(events)
}

/// Newest first.
pub(crate) fn crashes(connection: &Connection, app: AppId, limit: u32) -> Result<Vec<Crash>, StoreError> {
    let failed = |source| StoreError::sqlite("read crashes from", source);
    let mut statement = connection
        .prepare_cached(
            "SELECT at, slot, pid, uptime_ms, exit, stderr FROM crashes WHERE app_id = ?1 ORDER BY id DESC LIMIT ?2",
        )
        .map_err(failed)?;
    let mut rows = statement.query([app.0, limit]).map_err(failed)?;
    let mut crashes = Vec::new();
    while let Some(row) = rows.next().map_err(failed)? {
        crashes.extend(crash(row).map_err(failed)?);
    }
    Ok(crashes)
}

/// None if only a newer version understands it.
fn crash(row: &rusqlite::Row<'_>) -> Result<Option<Crash>, rusqlite::Error> {
    let exit = serde_json::from_str(row.get_ref(4)?.as_str()?);
    let stderr = serde_json::from_str(row.get_ref(5)?.as_str()?);
    let (Ok(exit), Ok(stderr)) = (exit, stderr) else {
        return Ok(None);
    };
    Ok(Some(Crash {
        at: WallTime(row.get(0)?),
        slot: row.get(1)?,
        pid: row.get(2)?,
        exit,
        uptime_ms: row.get::<_, i64>(3)?.cast_unsigned(),
        stderr,
    }))
}
