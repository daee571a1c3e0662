//! Node's IPC channel (one JSON value per line over a Unix stream socket, in any language), and on it the protocol
//! between the primary and the workers of a Node cluster, with the manager as the primary. Pure: who reads and writes
//! is `daemon::cluster`.
//!
//! ```text
//!   bytes that are there ─▶ cut (lines) ─▶ message::read ─▶ FromApp ─▶ the daemon ─▶ a reply ─▶ Outbox ─▶ socket
//!                                                                 NODE_HANDLE_ACK ─────────────▶ ┘
//! ```

pub mod channel;
pub mod message;
pub mod outbox;
pub mod pmx;
pub mod preload;
pub mod query;
