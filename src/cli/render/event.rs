//! One event as a line, and the app's own words under it.

use crate::cli::render::human::local_time;
use crate::cli::render::results::safe;
use crate::cli::ui::{BAD, DIM};
use crate::model::event::{Event, EventKind};

/// Lines shown of the last words of an instance that ended. Those that fail all the time would leave room for nothing
/// else.
const EXIT_LINES: usize = 5;

/// `2026-11-21 08:30:00  api:0  exited  exit code 1`.
#[must_use]
pub fn line(event: &Event) -> String {
    let who = match (&event.app, event.slot) {
        (Some(app), Some(slot)) => format!("{app}:{slot}"),
        (Some(app), None) => app.to_string(),
        (None, _) => "clmgr".to_owned(),
    };
    let style = if is_bad(event.kind) { BAD } else { anstyle::Style::new() };
    let mut text = format!(
        "{DIM}{}{DIM:#}  {who:<16}  {style}{:<18}{style:#}  {}",
        local_time(event.at),
        event.kind,
        safe(&event.message),
    );
    text.truncate(text.trim_end().len());
    let shown = if event.kind == EventKind::Exited {
        EXIT_LINES
    } else {
        usize::MAX
    };
    let more = event.stderr.len().saturating_sub(shown);
    if more > 0 {
        text.push_str(&format!(
            "\n{DIM}  │ … {more} more lines before: clmgr describe shows them{DIM:#}"
        ));
    }
    for line in &event.stderr[more..] {
        text.push_str(&format!("\n{DIM}  │ {}{DIM:#}", safe(line)));
    }
    text
}

/// Something a person should look at.
const fn is_bad(kind: EventKind) -> bool {
    matches!(
        kind,
        EventKind::SpawnFailed
            | EventKind::ReadyTimeout
            | EventKind::CircuitOpen
            | EventKind::Killed
            | EventKind::ReloadRolledBack
            | EventKind::LogLost
            | EventKind::StateLost
            | EventKind::UpgradeFailed
            | EventKind::AccessRefused
            | EventKind::AlertFailed
    )
}
