//! Reads log files. Only this file uses `logs`.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use crate::api::logs::LogSource;
use crate::cli::failure::Failure;
use crate::logs::tail::{Follower, From, Line, SourceLines, last, order};
use crate::model::time::WallTime;

/// How soon a closed terminal is noticed when no line comes.
const TURN: Duration = Duration::from_secs(1);

/// The last lines of some files, and then what comes.
#[derive(Debug)]
pub(crate) struct Tail {
    /// The last lines: by time if all files have times, else file by file.
    pub(crate) lines: Vec<Line>,
    files: Files,
}

/// Files to follow, and from where.
pub(crate) type Files = Vec<(PathBuf, From)>;

/// Reads the last `count` lines of each file. A file that does not exist yet has none.
///
/// # Errors
/// A file is there and cannot be read.
pub(crate) fn tail(sources: &[LogSource], count: usize, follows: bool) -> Result<Tail, Failure> {
    let mut parts = Vec::with_capacity(sources.len());
    let mut files = Vec::with_capacity(sources.len());
    for (number, source) in sources.iter().enumerate() {
        let path = source.path.as_path();
        // An unfinished line is left for the follower, so that it is not cut in two.
        let found = last(path, count, !follows)
            .map_err(|error| Failure::failed(format!("cannot read {}: {error}", path.display())))?;
        parts.push(SourceLines {
            source: number,
            format: source.format.clone(),
            lines: found.lines,
        });
        files.push((path.to_owned(), found.position.map_or(From::Beginning, From::At)));
    }
    Ok(Tail {
        lines: order(parts),
        files,
    })
}

/// The same for files that came while others were followed since `began`: the lines to show first,
/// numbered from `first`, and the files. One that was created since then is read as a whole.
pub(crate) fn tail_later(
    sources: &[LogSource],
    count: usize,
    first: usize,
    began: WallTime,
) -> Result<(Vec<Line>, Files), Failure> {
    let (mut lines, mut files) = (Vec::new(), Vec::with_capacity(sources.len()));
    for (number, source) in sources.iter().enumerate() {
        let path = source.path.as_path();
        if created(path).is_none_or(|time| time >= began) {
            files.push((path.to_owned(), From::Beginning));
            continue;
        }
        let one = tail(std::slice::from_ref(source), count, true)?;
        files.extend(one.files);
        lines.extend(one.lines.into_iter().map(|line| Line {
            source: first + number,
            ..line
        }));
    }
    Ok((lines, files))
}

/// When a file was made; none where there is none, or the file system does not know.
fn created(path: &Path) -> Option<WallTime> {
    let made = std::fs::metadata(path).ok()?.created().ok()?;
    let since = made.duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(since.as_millis()).ok().map(WallTime)
}

impl Tail {
    /// Calls `turn` with the lines that come, batch by batch (empty at least every second), until it fails.
    /// What it returns is followed, too. Goes on behind a rotation, and waits for files that do not exist yet.
    pub(crate) fn follow(self, mut turn: impl FnMut(Vec<Line>) -> Result<Files, Failure>) -> Result<(), Failure> {
        let mut follower = Follower::new(self.files).map_err(|error| cannot_follow(&error))?;
        loop {
            let lines = follower.next(Some(TURN)).map_err(|error| cannot_follow(&error))?;
            for (path, from) in turn(lines)? {
                follower.add(path, from).map_err(|error| cannot_follow(&error))?;
            }
        }
    }
}

fn cannot_follow(error: &io::Error) -> Failure {
    Failure::failed(format!("cannot follow the logs: {error}"))
}
