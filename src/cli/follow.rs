//! Reads log files: what is there, and what comes.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use crate::api::logs::LogSource;
use crate::cli::failure::Failure;
use crate::logs::query::{Filter, Query, QueryError, Source};
use crate::logs::tail::{Follower, From, Line};
use crate::model::ostext::OsText;
use crate::model::time::WallTime;
use crate::os::limits;

/// How soon a closed terminal is noticed when no line comes.
const TURN: Duration = Duration::from_secs(1);

/// Files to follow, and from where.
pub(crate) type Files = Vec<(PathBuf, From)>;

/// What the logs have, by time; and the files as they were at that moment, to follow from there.
///
/// # Errors
/// A file is there and cannot be read.
pub(crate) fn history(
    sources: &[LogSource],
    times: Option<&OsText>,
    filter: Filter,
    follows: bool,
) -> Result<(Query, Files), Failure> {
    // Each log has a file open. What cannot be raised is met as an error later.
    let _former = limits::raise_nofile();
    let logs = sources.iter().map(|source| Source {
        path: source.path.as_path().to_owned(),
        format: source.format.clone(),
        zone: source.zone.clone(),
        times: times.map(|folder| folder.as_path().to_owned()),
    });
    // An unfinished line is left for the follower, so that it is not cut in two.
    let query = Query::open(logs.collect(), filter, !follows).map_err(|error| unreadable(&error))?;
    let from = query.ends().iter().map(|end| end.map_or(From::Beginning, From::At));
    let files = sources
        .iter()
        .map(|source| source.path.as_path().to_owned())
        .zip(from)
        .collect();
    Ok((query, files))
}

/// Those of the files that came while others were followed since `began` are new, and read as a whole.
pub(crate) fn is_new(source: &LogSource, began: WallTime) -> bool {
    created(source.path.as_path()).is_none_or(|time| time >= began)
}

/// When a file was made; none where there is none, or the file system does not know.
fn created(path: &Path) -> Option<WallTime> {
    let made = std::fs::metadata(path).ok()?.created().ok()?;
    let since = made.duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(since.as_millis()).ok().map(WallTime)
}

/// Files that are followed.
#[derive(Debug)]
pub(crate) struct Tail {
    follower: Follower,
    warned: bool,
}

impl Tail {
    /// Holds the files from now on, whatever happens to them before they are read.
    pub(crate) fn new(files: Files) -> Result<Self, Failure> {
        let follower = Follower::new(files).map_err(|error| cannot_follow(&error))?;
        Ok(Self {
            follower,
            warned: false,
        })
    }

    /// The lines that came; empty at least every second. Goes on behind a rotation, and waits for files that do not
    /// exist yet.
    pub(crate) fn next(&mut self) -> Result<Vec<Line>, Failure> {
        self.follower.next(Some(TURN)).map_err(|error| cannot_follow(&error))
    }

    /// Follows these, too.
    pub(crate) fn add(&mut self, files: Files) -> Result<(), Failure> {
        for (path, from) in files {
            self.follower.add(path, from).map_err(|error| cannot_follow(&error))?;
        }
        Ok(())
    }

    /// What somebody who follows should know, once.
    pub(crate) fn note(&mut self) -> Option<&'static str> {
        let is_news = self.follower.is_polling() && !std::mem::replace(&mut self.warned, self.follower.is_polling());
        is_news.then_some(
            "this user has no inotify instances or watches left (fs.inotify.max_user_instances, \
             fs.inotify.max_user_watches); the files are looked at four times a second instead",
        )
    }
}

/// A log that is there and cannot be read.
pub(crate) fn unreadable(error: &QueryError) -> Failure {
    Failure::failed(format!("{error}: {}", error.source))
}

fn cannot_follow(error: &io::Error) -> Failure {
    Failure::failed(format!("cannot follow the logs: {error}"))
}
