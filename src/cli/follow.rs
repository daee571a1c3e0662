//! Reads log files. Only this file uses `logs`.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::api::logs::LogSource;
use crate::cli::failure::Failure;
use crate::logs::tail::{Follower, From, Line, SourceLines, last, order};

/// How soon a closed terminal is noticed when no line comes.
const TURN: Duration = Duration::from_secs(1);

/// The last lines of some files, and then what comes.
#[derive(Debug)]
pub(crate) struct Tail {
    /// The last lines: by time if all files have times, else file by file.
    pub(crate) lines: Vec<Line>,
    files: Vec<(PathBuf, From)>,
}

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

impl Tail {
    /// Calls `each` with the lines that come, batch by batch (empty at least every second), until it fails. Goes on behind a rotation,
    /// and waits for files that do not exist yet.
    pub(crate) fn follow(self, mut each: impl FnMut(Vec<Line>) -> Result<(), Failure>) -> Result<(), Failure> {
        let mut follower = Follower::new(self.files).map_err(|error| cannot_follow(&error))?;
        loop {
            each(follower.next(Some(TURN)).map_err(|error| cannot_follow(&error))?)?;
        }
    }
}

fn cannot_follow(error: &io::Error) -> Failure {
    Failure::failed(format!("cannot follow the logs: {error}"))
}
