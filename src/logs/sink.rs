//! What the pump is told and what it tells: streams, sinks, notices, numbers.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::logs::target::Wanted;
use crate::model::logspec::{LogFormat, Overflow, Rotation, Stream};
use crate::model::names::{AppName, Namespace, RunId, Slot};

/// One pipe of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StreamKey {
    /// Which run.
    pub run: RunId,
    /// Which of its two pipes.
    pub stream: Stream,
}

/// Who writes; the fields of a JSON record and of a loss notice. One value per run can be shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The app.
    pub app: AppName,
    /// Its group.
    pub namespace: Namespace,
    /// The instance.
    pub slot: Slot,
    /// The process that was started.
    pub pid: u32,
}

/// Where one stream goes.
#[derive(Clone, Debug)]
pub struct Sink {
    /// Absolute path of the stream's file.
    pub path: PathBuf,
    /// A second file that gets both streams in the order they came; its lines are always framed.
    pub log_file: Option<PathBuf>,
    /// Other streams write to `path` too (merged instances, out and err in one file), now or later:
    /// frame whole lines from the first byte. Sharing that only shows later is noticed, but then a
    /// line that is already half written is ended where it is.
    pub shared: bool,
    /// Somebody read this pipe before (a former daemon): an unfinished line at the end of the file is
    /// the beginning of what comes. False for a new process, which begins a line of its own.
    pub adopted: bool,
    /// What a line looks like.
    pub format: LogFormat,
    /// The time zone of stamps, JSON times and rotation by time; see [`crate::os::zone::of`].
    pub zone: Option<String>,
    /// When to rotate, what to keep.
    pub rotate: Rotation,
    /// Full and slow targets, see [`crate::logs::outage`].
    pub overflow: Overflow,
    /// Not into files: read and throw away, unless there is another target.
    pub disabled: bool,
    /// Targets besides files.
    pub targets: Wanted,
    /// Create missing folders with mode 0700 (ours) instead of what the umask allows (the user's).
    pub private_folder: bool,
    /// Who writes.
    pub origin: Arc<Origin>,
    /// The runtime's standard stream gets it, too.
    pub console: Option<ConsoleSink>,
}

/// How lines look on a runtime's standard stream: standard output for `out`, standard error for `err`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsoleSink {
    /// Stands before each line.
    pub prefix: Vec<u8>,
    /// One JSON object a line, whatever the file gets.
    pub json: bool,
}

/// What the pump reports. Called on the pump's thread: hand it on, do not work in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// All that a run had written when [`Pump::drain`](crate::logs::pump::Pump::drain) was asked is in
    /// its files.
    Drained {
        /// Which run.
        run: RunId,
        /// Its last stderr lines, oldest first; invalid UTF-8 is shown as U+FFFD.
        stderr: Vec<String>,
    },
    /// The readiness pattern was found; reported once.
    LineMatched {
        /// Which run.
        run: RunId,
    },
    /// A file cannot be written; output is being lost. Once per outage.
    Lost(Loss),
    /// The file can be written again; the numbers are final.
    Resumed(Loss),
    /// Rotated files went for want of space.
    Removed(Removal),
    /// A log was written too slowly for an app that is not to wait, see [`crate::logs::pump`]; the numbers are
    /// final.
    Dropped(Loss),
    /// A standard stream of the runtime lost output, or cannot be written any more. For people.
    Console(String),
}

/// Rotated files that were removed because too little of their file system was free.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    /// Where; the first of several folders.
    pub folder: PathBuf,
    /// How many.
    pub files: u64,
    /// What they took of the disk, in bytes.
    pub bytes: u64,
    /// Whose they were.
    pub apps: BTreeSet<AppName>,
}

impl Removal {
    /// Nothing yet.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            files: 0,
            bytes: 0,
            apps: BTreeSet::new(),
        }
    }

    /// One more.
    pub fn count(&mut self, app: &AppName, bytes: u64) {
        self.files += 1;
        self.bytes += bytes;
        if !self.apps.contains(app) {
            self.apps.insert(app.clone());
        }
    }

    /// Both together.
    pub fn add(&mut self, more: Self) {
        self.files += more.files;
        self.bytes += more.bytes;
        self.apps.extend(more.apps);
    }
}

/// Output lost because a file could not be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The app, or the one that joined last of those that share the file.
    pub app: AppName,
    /// Its instance.
    pub slot: Slot,
    /// The file.
    pub path: PathBuf,
    /// Lines of which at least a part was lost.
    pub lines: u64,
    /// Bytes lost, as they would have stood in the file.
    pub bytes: u64,
    /// The first error, as the system words it.
    pub error: String,
}

/// Numbers since the pump started, except the first two, which are current.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Attached streams.
    pub streams: u64,
    /// Files that cannot be written now.
    pub outages: u64,
    /// Bytes read from pipes.
    pub bytes: u64,
    /// Lines lost in outages that are over.
    pub lost_lines: u64,
    /// Bytes lost in outages that are over.
    pub lost_bytes: u64,
    /// Rotations done.
    pub rotations: u64,
}
