//! When the bytes of a file were written whose lines do not say it.

use std::fs::File;
use std::path::Path;

use crate::logs::times::Times;
use crate::model::time::WallTime;

/// Of one file.
pub(super) trait Index: Send + std::fmt::Debug {
    /// The bytes before this were written before that time; 0 if unknown.
    fn offset_at(&self, time: WallTime) -> u64;
    /// When this byte was written, or a little later.
    fn time_at(&self, offset: u64) -> Option<WallTime>;
    /// When it was written, or a little earlier.
    fn latest_at(&self, offset: u64) -> Option<WallTime>;
}

impl Index for Times {
    fn offset_at(&self, time: WallTime) -> u64 {
        Self::offset_at(self, time)
    }

    fn time_at(&self, offset: u64) -> Option<WallTime> {
        Self::time_at(self, offset)
    }

    fn latest_at(&self, offset: u64) -> Option<WallTime> {
        Self::latest_at(self, offset)
    }
}

/// The index of a file; none if there is none that belongs to it.
pub(super) fn open(folder: &Path, file: &File) -> Option<Box<dyn Index>> {
    Some(Box::new(Times::open(folder, file)?))
}
