//! Reading what comes. The CLI and the API do this by themselves, on the files; nothing here talks to the pump.

pub mod follow;
mod next;
mod split;
#[cfg(test)]
mod tests;
mod wake;

pub use follow::{Follower, From, Line};

/// A longer line is given in pieces of this size, so memory is bounded.
pub const MAX_LINE: usize = 1 << 20;
