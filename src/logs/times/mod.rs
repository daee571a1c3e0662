//! When the bytes of a log were written: a small sparse index beside each log, because raw lines carry no time.
//!
//! ```text
//!            wrote(time, from, len)              once a second: all logs      32 entries, a rotation, silence
//!  LogFile ─────────────────────────► Book ────────────────────────► recent.0/1 ──────► <device>-<inode>
//!                                     (memory)                            │                   │
//!  Times::open ◄──────────────────────────────────────────────────────────┴───────────────────┘
//! ```
//!
//! An index belongs to an inode, so a rename costs nothing, whoever does it. A compressed copy takes over the index of
//! its original; its offsets go on counting the bytes of the text. Indexes are kept in one folder, `.times` in the
//! folder of the logs; a thread of its own removes those whose file is gone. An index that is another file's (its
//! inode was used again), or that says more than the file has, is not used.
//!
//! Each entry says of one byte: what stands before it was written at this time or earlier. There is one for each
//! [`SPAN`] in which something was written, unless that would make the index larger than a quarter of its log and a
//! little more; then the next entry is marked [`loose`](entry::Entry::loose).
//!
//! | happens | the times |
//! |---|---|
//! | `kill -9` | the entries of at most the last second are missing; the next one is loose; a torn one at the end is not read |
//! | the clock is set back | are kept as they were told; the index is marked and searched from its beginning on |
//! | the log is emptied | begin anew with the next write |
//! | somebody else writes to it | what he wrote lies between two entries |
//! | the index cannot be written | are missing for a while; the log is not touched by it |
//! | the machine loses power | a hole is noticed by what stands at the end; then there are none |

mod book;
mod entry;
mod index;
mod packed;
mod read;
mod recent;
mod sweep;

#[cfg(test)]
mod tests;

pub use book::Book;
pub use packed::{Folder, packed};
pub use read::Times;

/// Milliseconds in which all that is written has one entry.
const SPAN: i64 = 50;
