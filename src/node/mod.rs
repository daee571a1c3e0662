//! Node's IPC channel: one JSON value per line over a Unix stream socket, in any language.

pub mod channel;
pub mod pmx;
