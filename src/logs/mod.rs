//! App output: from pipe to file, rotated, compressed, and read again.
//!
//! ```text
//!  app ── stdout ─┐ pipe                        ┌───────────────┐  lines framed, stamped, JSON
//!  app ── stderr ─┤ (the keeper holds a second  │ pump, thread  │  or bytes untouched (splice)
//!  app ── …      ─┘  read end, so no writer     │ "logs"        ├──────────► <path>
//!                    ever sees EPIPE)     epoll │ owns streams, │ rotate ──► <path>.1 … .N
//!  daemon ── Pump (commands, eventfd) ────────► │ files, runs   │              │
//!  daemon ◄─ Notice (drained, line, lost) ───── └─┬─────┬───────┘              │
//!                                                 │     └─ journald, syslog, a runtime's standard streams
//!                                                 └─ .times (when what was written)
//!                                               thread "logs-gzip" ◄── paths ──┤  .N → .N.gz
//!                                               thread "logs-tidy" ◄── bounds ─┘  the oldest are removed
//!  CLI, API ── query::Query, tail::Follower ── read the files; never talk to the pump
//! ```
//!
//! Who owns what: the pump thread alone owns files and counters. Nothing is locked on the way from pipe to file,
//! except the pipes of streams in `drop` mode, which a thread "logs-drop" empties when the pump is late. Rotated
//! *names* are shared with the threads that compress and remove, and are changed only under [`rotate::Shelf`]'s lock,
//! which is held for a few renames. There is one read buffer for all streams, and one encode buffer for each of a
//! stream's two files; a stream has memory of its own only while it holds a partial line, or lines that wait for
//! room on a full disk.
//!
//! What survives `kill -9` of the process: everything, but the count of what `drop` mode is just dropping. It is in
//! the pipe, in the file, or in the files of the [`journal`]. Lines are held back in files that several streams
//! share, for JSON records, for targets and a runtime's streams, in stamped logs in `drop` mode, and of what children
//! write after their parent's end; other files get fragments at once.

pub mod bounds;
pub mod chain;
pub mod clock;
pub mod compress;
pub mod console;
pub mod file;
pub mod frame;
pub mod journal;
pub mod level;
mod moment;
pub mod outage;
pub mod pace;
pub mod pump;
pub mod query;
pub mod rotate;
pub mod sink;
pub mod stamp;
pub mod stderr;
pub mod tail;
pub mod target;
pub mod tidy;
pub mod times;
mod tokens;
pub mod watch;
pub mod words;
