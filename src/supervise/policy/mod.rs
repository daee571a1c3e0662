//! One rule per file; each a pure function or a small value, tested by itself.

pub mod backoff;
pub mod breaker;
pub mod lost_order;
pub mod replacement;
pub mod restart;
pub mod stability;
