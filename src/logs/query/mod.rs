//! Reads the history of logs: what was written between two points in time, what matches, the last lines;
//! of many logs as one, by time, through rotated and compressed files.
//!
//! ```text
//!  Source ── files ── which files, by when they begin ── plan ── where to begin in them ── stream ─┐
//!  Source ── …                                            (search by halves on the stamps,          ├─ merge ── Query
//!  Source ── …                                             or from the end for the last lines) ─────┘  by time
//! ```
//!
//! A [`Query`] is pulled: what nobody asks for is not read. It holds one block of each log and opens the
//! files of a log one after the other, so memory does not grow with the history. Files may be rotated,
//! compressed and removed meanwhile; what ends a query is where the logs ended when it was opened.
//!
//! Times go back when a clock is set. The search by halves therefore begins [`MARGIN`] earlier (at most [`WINDOW`]
//! bytes) and every line is judged by its own time.

mod backward;
mod bisect;
mod files;
mod filter;
mod index;
pub mod level;
mod lines;
mod merge;
pub mod parse;
mod plan;
mod resume;
mod since;
mod stream;
#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;

use crate::logs::chain::Position;
use crate::model::level::Level;
use crate::model::logspec::LogFormat;
use crate::model::time::WallTime;

pub use filter::{Filter, Limit};
pub use merge::Query;
pub use parse::{Parsed, Parser};
pub use resume::Resume;
pub use since::{NoTime, Since};

/// How far a clock may have been set back without a line being missed, in milliseconds.
pub const MARGIN: i64 = 60_000;
/// At most so many bytes are read for the sake of [`MARGIN`].
pub const WINDOW: u64 = 8 << 20;

/// One log: its current file and all its rotated ones.
#[derive(Clone, Debug)]
pub struct Source {
    /// The current file; there may be none.
    pub path: PathBuf,
    /// What a line looks like.
    pub format: LogFormat,
    /// The time zone of stamps that do not say it, an IANA name; the system's if none.
    pub zone: Option<String>,
    /// The folder with the time indexes, for lines that carry no time.
    pub times: Option<PathBuf>,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The number of the source, as given to [`Query::open`].
    pub source: usize,
    /// When it was written; of a line that does not say it, what the line before it or the time index says.
    pub time: Option<WallTime>,
    /// How grave it is, if it says so.
    pub level: Option<Level>,
    /// As it stands in the file, without its newline. A line of more than a mebibyte comes in pieces.
    pub bytes: Vec<u8>,
    /// The place behind it.
    pub after: Position,
}

/// A log cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the log {}", path.display())]
pub struct QueryError {
    /// Its current file.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}
