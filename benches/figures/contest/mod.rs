//! Four workers of one Node server behind one port, shared out by clmgr and by everybody else who can.
//!
//! All contestants run at once, each on a port of its own, and are put under load in turns: what is idle costs the
//! others nothing. Medians of the rounds are compared.

mod blocked;
mod measure;
mod side;
mod speed;
mod sticky;

pub(crate) use blocked::blocked;
pub(crate) use speed::speed;
pub(crate) use sticky::sticky;

/// How many workers everybody has.
const WORKERS: usize = 4;
/// Connections that are busy at a time.
const BUSY: usize = 64;
