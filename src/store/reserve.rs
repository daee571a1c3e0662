//! Room that is kept for the one thing that must be possible on a full disk: to stop something.
//!
//! ```text
//!   renew (room enough) ──▶ held ──give_up──▶ given up ──renew (a commit worked, room enough)──▶ held
//! ```

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::store::damage::with_suffix;

/// In bytes: a stop of a thousand apps fits.
const SIZE: usize = 1 << 20;

/// Bytes that must be free before the reserve is taken: the next write must not want it back.
const ENOUGH: u64 = 8 << 20;

/// A file beside the state that can be removed.
#[derive(Debug)]
pub(crate) struct Reserve {
    path: PathBuf,
    held: bool,
}

impl Reserve {
    /// The one that is there already, or none.
    pub(crate) fn beside(state: &Path) -> Self {
        let path = with_suffix(state, "-reserve");
        let held = path.metadata().is_ok_and(|file| file.len() == SIZE as u64);
        Self { path, held }
    }

    /// Takes the room, if the disk has much more than that.
    pub(crate) fn renew(&mut self, free: u64) {
        if self.held || free < ENOUGH {
            return;
        }
        self.held = fill(&self.path).is_ok();
        if !self.held {
            remove(&self.path);
        }
    }

    /// Gives the room back; false if there is none to give.
    pub(crate) fn give_up(&mut self) -> bool {
        let held = std::mem::replace(&mut self.held, false);
        if held {
            remove(&self.path);
        }
        held
    }
}

/// Bytes that no file system can make smaller.
fn fill(path: &Path) -> io::Result<()> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(SIZE);
    while bytes.len() < SIZE {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(&bytes)
}

#[expect(clippy::disallowed_methods, reason = "the store owns this file")]
fn remove(path: &Path) {
    // It may not be there; a reserve that cannot be removed is none.
    let _gone = std::fs::remove_file(path);
}
