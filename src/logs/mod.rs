//! App output: from pipe to file, rotated, compressed, and read again.
//!
//! ```text
//!  app ── stdout ─┐ pipe                        ┌───────────────┐  lines framed, stamped, JSON
//!  app ── stderr ─┤ (the keeper holds a second  │ pump, thread  │  or bytes untouched (splice)
//!  app ── …      ─┘  read end, so no writer     │ "logs"        ├──────────► <path>
//!                    ever sees EPIPE)     epoll │ owns streams, │ rotate ──► <path>.1 … .N
//!  daemon ── Pump (commands, eventfd) ────────► │ files, runs   │              │
//!  daemon ◄─ Notice (drained, line, lost) ───── └───────────────┘              │
//!                                               thread "logs-gzip" ◄── paths ──┘  .N → .N.gz
//!  CLI, API ── query::Query, tail::Follower ── read the files; never talk to the pump
//! ```
//!
//! Who owns what: the pump thread alone owns descriptors, files and counters; nothing is locked on the
//! way from pipe to file. Rotated *names* are shared with the gzip thread and are changed only under
//! [`rotate::Shelf`]'s lock, which is held for a few renames. There is one read buffer and one encode
//! buffer for all streams; a stream has memory of its own only while it has a partial line to hold.
//!
//! What survives `kill -9` of the process: everything. It is in the pipe, in the file, or in the files of the
//! [`journal`]. Lines are held back only in files that several streams share and for JSON records; a private raw
//! or stamped file gets fragments at once.

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
