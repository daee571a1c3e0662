//! What is known of the descriptors that instances have left with the manager. The core does nothing with it: it is
//! in the app's record so that the next daemon knows what to look for.

use serde::{Deserialize, Serialize};

use crate::model::names::{AppId, Slot};
use crate::supervise::Core;

/// One descriptor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredFd {
    /// Tells it from others of its slot; grows.
    pub number: u64,
    /// `FDNAME`.
    pub name: String,
    /// It is closed when its other end is gone.
    pub poll: bool,
    /// Device and inode number of its file.
    pub file: (u64, u64),
}

impl StoredFd {
    /// One that came now.
    #[must_use]
    pub fn new(number: u64, name: &str, poll: bool, file: (u64, u64)) -> Self {
        Self {
            number,
            name: name.to_owned(),
            poll,
            file,
        }
    }
}

impl Core {
    /// A descriptor was left for the processes of a slot.
    pub fn leave_descriptor(&mut self, app: AppId, slot: Slot, known: StoredFd) {
        self.touch(app, |app, _| {
            let list = app.stored.entry(slot).or_default();
            list.retain(|one| one.number != known.number);
            list.push(known);
        });
    }

    /// It is gone.
    pub fn forget_descriptor(&mut self, app: AppId, slot: Slot, number: u64) {
        self.touch(app, |app, _| {
            if let Some(list) = app.stored.get_mut(&slot) {
                list.retain(|one| one.number != number);
                if list.is_empty() {
                    app.stored.remove(&slot);
                }
            }
        });
    }
}
