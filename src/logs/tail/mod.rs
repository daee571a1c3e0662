//! Reading logs: the last lines, what comes, and the order of several sources. The CLI does this by
//! itself, on the files; nothing here talks to the pump.

pub mod follow;
pub mod last;
mod next;
pub mod order;
mod split;
#[cfg(test)]
mod tests;
mod wake;

pub use follow::{Follower, From, Line};
pub use last::{Last, last, last_lines};
pub use order::{SourceLines, order};

/// A longer line is given in pieces of this size, so memory is bounded.
pub const MAX_LINE: usize = 1 << 20;
