//! What all log files share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::logs::compress::Compressor;
use crate::logs::console::Outlet;
use crate::logs::frame::Stampers;
use crate::logs::journal::Journal;
use crate::logs::sink::Notice;
use crate::logs::target::Remotes;
use crate::logs::tidy::Tidy;
use crate::logs::times::Book;
use crate::model::time::{Moment, WallTime};

/// What all files need; owned by the pump thread.
pub struct Context {
    /// Now, for stamps and rotation by time.
    pub wall: WallTime,
    /// Now, for retries.
    pub now: Moment,
    /// Where notices go.
    pub notify: Box<dyn Fn(Notice) + Send>,
    /// Timestamps.
    pub stampers: Stampers,
    /// The gzip thread.
    pub compressor: Compressor,
    /// What removes rotated files.
    pub tidy: Tidy,
    /// Numbers.
    pub counters: Arc<Counters>,
    /// The runtime's standard output and standard error.
    pub outlets: [Option<Outlet>; 2],
    /// Targets that are no files.
    pub remotes: Remotes,
    /// What keeps bytes on their way when this process is killed.
    pub journal: Option<Journal>,
    /// When what was written.
    pub times: Book,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("wall", &self.wall)
            .finish_non_exhaustive()
    }
}

/// See [`Stats`](crate::logs::sink::Stats).
#[derive(Debug, Default)]
pub struct Counters {
    /// Attached streams.
    pub streams: AtomicU64,
    /// Files that cannot be written now.
    pub outages: AtomicU64,
    /// Bytes read.
    pub bytes: AtomicU64,
    /// Lines lost.
    pub lost_lines: AtomicU64,
    /// Bytes lost.
    pub lost_bytes: AtomicU64,
    /// Rotations.
    pub rotations: AtomicU64,
}

impl Counters {
    /// Counts what is lost for good.
    pub fn dropped(&self, lines: u64, bytes: u64) {
        self.lost_lines.fetch_add(lines, Ordering::Relaxed);
        self.lost_bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}
