//! The load: HTTP requests of one thread over loopback, as cheap as they can be made, because the client shares the
//! processors with what is measured.
//!
//! Closed loops keep a fixed number of connections busy. The open loop sends at a fixed rate whatever happens, and
//! counts a request's time from when it was due, so that a stall is seen by everybody it delayed.

mod connection;
mod driver;
mod tally;

use std::net::Ipv4Addr;
use std::time::Duration;

pub(crate) use driver::run;
pub(crate) use tally::{Tally, variation};

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pattern {
    /// A connection for each request, so many at a time.
    Close(usize),
    /// So many connections, one request after the other on each.
    KeepAlive(usize),
    /// A connection for each request, so many begun per second.
    Open(u32),
}

/// A run of load.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// The server's port on 127.0.0.1.
    pub(crate) port: u16,
    /// What is sent.
    pub(crate) pattern: Pattern,
    /// How long; what has begun by then is finished and counted.
    pub(crate) time: Duration,
    /// The clients' addresses, in turns; none: 127.0.0.1, chosen by the kernel.
    pub(crate) from: Vec<Ipv4Addr>,
}
