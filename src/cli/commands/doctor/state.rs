//! The database: is it one, can it be written, was one put aside? And the clock that its times come from.

use std::fs::File;
use std::io::Read;
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;

use crate::api::routes;
use crate::cli::connect::Daemon;
use crate::cli::world;
use crate::model::event::{Event, EventKind};
use crate::model::size::Bytes;
use crate::model::time::WallTime;
use crate::os::clock;

use super::Scene;
use super::check::Check;

/// How every SQLite file begins.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// 2026-01-01: this program is not older.
const EPOCH: WallTime = WallTime(1_767_225_600_000);
/// Clocks of different sources may differ by so many ms.
const SLACK: i64 = 60_000;

pub(super) fn check(scene: &Scene) -> Vec<Check> {
    let mut checks = vec![database(scene)];
    let names = world::list_dir(&scene.home.state);
    let aside = names.iter().filter(|name| {
        name.starts_with("clmgr.db.damaged-") && ["-wal", "-shm", "-journal"].iter().all(|end| !name.ends_with(end))
    });
    for name in aside {
        let path = scene.home.state.join(name);
        checks.push(Check::attention(
            "damaged state",
            format!("{} was damaged and put aside", path.display()),
            "clmgr status shows what was saved; start again what is missing, then remove the file",
        ));
    }
    checks
}

fn database(scene: &Scene) -> Check {
    let path = scene.home.db();
    let shown = path.display();
    let mut head = [0; MAGIC.len()];
    let size = match File::open(&path).and_then(|mut file| {
        let size = file.metadata()?.len();
        file.read_exact(&mut head).map(|()| size)
    }) {
        Ok(size) => size,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Check::note(
                "database",
                format!("{shown} is not there yet; the first start makes it"),
            );
        }
        Err(error) => {
            let next = "clmgr status puts a damaged file aside and goes on with its backup";
            return Check::attention("database", format!("{shown} cannot be read: {error}"), next);
        }
    };
    let size = Bytes(size);
    if scene.ping.is_none() {
        return if head == *MAGIC {
            Check::note("database", format!("{shown}, {size}; nobody has it open"))
        } else {
            Check::attention(
                "database",
                format!("{shown} is no database"),
                "clmgr status puts it aside and goes on with its backup",
            )
        };
    }
    match last_trouble() {
        Some(event) if event.kind == EventKind::StateLost => Check::attention(
            "database",
            format!("{shown}: {} ({})", event.message, event.at),
            "repair what it says; changes are refused until then, apps go on",
        ),
        Some(_) | None => Check::ok("database", format!("{shown} is open, {size}")),
    }
}

/// The newest event about writing the state.
fn last_trouble() -> Option<Event> {
    let kinds = [EventKind::StateLost, EventKind::StateResumed];
    let mut query: Vec<(&str, String)> = kinds.iter().map(|kind| ("kind", kind.to_string())).collect();
    query.push(("limit", "1".to_owned()));
    let mut found = None;
    let mut daemon = Daemon::running().ok()??;
    let _asked = daemon.stream(routes::EVENTS, &query, |line| {
        found = serde_json::from_slice(line.trim_ascii()).ok().or(found.take());
        ControlFlow::Continue(())
    });
    found
}

/// Times that are shown come from the wall clock; timers do not.
pub(super) fn clock(scene: &Scene) -> Check {
    let now = clock::wall();
    let written = std::fs::metadata(scene.home.db()).ok();
    let written = written.map(|file| WallTime(file.mtime().saturating_mul(1000)));
    judge(now, written)
}

fn judge(now: WallTime, written: Option<WallTime>) -> Check {
    let next = "set the clock (timedatectl set-ntp true); apps are not affected, shown times are";
    match written {
        _ if now < EPOCH => Check::attention("clock", format!("it says {now}, which cannot be"), next),
        Some(written) if written.0 > now.0.saturating_add(SLACK) => {
            let message = format!("it says {now}, but the state was written at {written}: it was set back");
            Check::attention("clock", message, next)
        }
        Some(_) | None => Check::ok("clock", now.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::{EPOCH, judge};
    use crate::cli::commands::doctor::check::Verdict;
    use crate::model::time::WallTime;

    #[test]
    fn a_clock_that_was_set_back_is_noticed() {
        let at = |seconds: i64| WallTime(EPOCH.0 + seconds * 1000);
        assert_eq!(judge(at(100), Some(at(90))).verdict, Verdict::Ok);
        assert_eq!(judge(at(100), Some(at(130))).verdict, Verdict::Ok, "within the slack");
        assert_eq!(judge(at(100), Some(at(86_500))).verdict, Verdict::Attention);
        assert_eq!(judge(at(-1), None).verdict, Verdict::Attention);
    }
}
