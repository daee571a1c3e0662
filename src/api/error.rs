//! How the daemon says no.

pub use crate::model::outcome::{ErrorBody, ErrorKind};
