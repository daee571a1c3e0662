//! The CLI's side of the control socket: HTTP/1.1 over a Unix socket, blocking outwards.
//!
//! One runtime on the calling thread, no other threads, no name lookups: `clmgr status` has two
//! milliseconds for its whole life. [`launch`] starts a keeper when none runs.

mod connection;
mod error;
pub mod launch;
mod lines;
mod version;
mod watch;

#[cfg(test)]
mod tests;

pub use connection::Client;
pub use error::ClientError;
pub use version::version_note;
