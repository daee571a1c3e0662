//! What keeper and daemon say to each other.
//!
//! Messages are CBOR with numbered fields: a field that the other side does not know is skipped, and one
//! that it does not send has its default, so both sides of [`MIN_VERSION`] and later understand each other.
//! A message that the other side does not know at all needs a new [`VERSION`].

mod held;
mod messages;
mod spawn;
mod upgrade;
pub(crate) mod wire;

pub use held::Held;
pub use messages::{ChildEntry, ExitReport, FromKeeper, Restored, ToKeeper};
pub use spawn::SpawnRequest;
pub use upgrade::{Seen, UpgradeOrder, UpgradeOutcome};

/// The oldest version that this one understands.
pub const MIN_VERSION: u32 = 1;
/// The version that this one speaks.
pub const VERSION: u32 = 4;

/// The version to speak with a side that understands `min` to `current`, if there is one.
#[must_use]
pub const fn agree(min: u32, current: u32) -> Option<u32> {
    let version = if current < VERSION { current } else { VERSION };
    if version >= min && version >= MIN_VERSION {
        Some(version)
    } else {
        None
    }
}
