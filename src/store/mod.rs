//! The state folder's database: SQLite on a thread of its own named `store`; nothing else in the
//! program touches SQLite.
//!
//! ```text
//!  caller ── commit(changes, reply) ──▶ ┌───────┐   FULL: fsync, then reply
//!         ── note(note) ──────────────▶ │ queue │─▶ thread ──▶ clmgr.db (WAL, exclusive lock)
//!         ── events/crashes/flush ────▶ └───────┘   NORMAL: one transaction for all waiting notes
//!
//!  healthy ──a write fails (disk full, I/O)──▶ trouble: notes wait, bounded; commits answer an error
//!  trouble ──a write works (retried each second, and before each commit)──▶ healthy
//!  a stop or a delete meets a full disk ──▶ the reserve is given up, once, and it is written all the same
//! ```
//!
//! Some seconds after the last change a copy is made (`clmgr.db.bak`). A file that is damaged when it is opened is put
//! aside, and the copy is taken; what the copy does not know, the living processes tell (`daemon::salvage`).
//!
//! A **change** is what the user asked for: it survives a power cut once its reply says so, and is
//! applied as a whole or not at all. A **note** is what happened: it survives the death of this process,
//! not necessarily a power cut. What one caller puts in is written in that order. No call blocks.
//!
//! The thread holds the file's lock for as long as it lives, so two daemons can never write to one
//! state folder; it also keeps the index of the write-ahead log in its own memory, so there is no
//! shared-memory file and no way to be hit by `SIGBUS` when the disk is full. The lock is the kernel's
//! per-process kind: nothing else in this process may open and close `clmgr.db`, or it is gone.

mod backup;
mod borrow;
mod damage;
mod error;
mod handle;
mod load;
mod migrate;
mod note;
mod open;
mod query;
mod queue;
mod reserve;
mod state;
mod words;
mod worker;
mod write;

#[cfg(test)]
mod tests;

pub use error::StoreError;
pub use handle::Store;
pub use migrate::{Schema, newest, oldest_reader};
pub use open::{DiskCheck, Opened, Options, TroubleHook};
pub use query::EventQuery;
pub use queue::Reply;
pub use state::{AppRow, Change, Desired, LoadedState, Note, RunRow, RuntimeRow};
