//! Exit codes. Those of the daemon's answers are [`ErrorKind::exit_code`](crate::api::error::ErrorKind::exit_code).
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | it was tried and did not work |
//! | 2 | the command line or the ecosystem file makes no sense |
//! | 3 | nothing is meant by the target |
//! | 4 | something else is going on with the same app |
//! | 5 | the daemon cannot be reached |
//! | 6 | not allowed |
//! | 70 | a bug in clmgr |
//! | 130 | interrupted by Ctrl-C |

/// Done.
pub const OK: u8 = 0;
/// It was tried and did not work.
pub const FAILED: u8 = 1;
/// The command line or a file makes no sense.
pub const USAGE: u8 = 2;
/// Nothing is meant by the target.
pub const NOT_FOUND: u8 = 3;
/// Something else is going on with the same app, or another keeper has the same home.
pub const CONFLICT: u8 = 4;
/// The daemon cannot be reached.
pub const UNREACHABLE: u8 = 5;
/// This user may not.
pub const FORBIDDEN: u8 = 6;
/// Interrupted by Ctrl-C.
pub const INTERRUPTED: u8 = 130;
