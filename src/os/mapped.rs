//! A part of a file as memory: what is stored there is in the file, although this process is killed.

use std::fs::File;
use std::io;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering, compiler_fence};

use rustix::fs::{FallocateFlags, FsWord, fallocate, statfs};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// `f_type` of tmpfs, ext2 to ext4, and XFS.
const STEADY: [FsWord; 3] = [0x0102_1994, 0xef53, 0x5846_5342];

/// Whether the files of this folder can be mapped without danger: their file system does not ask for more space
/// when what is allocated is overwritten. On any other a full disk could end the process in the middle of a store.
#[must_use]
pub fn is_steady(folder: &Path) -> bool {
    statfs(folder).is_ok_and(|found| STEADY.contains(&found.f_type))
}

/// A mapped part of a file.
#[derive(Debug)]
pub struct Mapped {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread, and is only used through its owner.
unsafe impl Send for Mapped {}

impl Mapped {
    /// Maps `len` bytes from `at`, which is a multiple of 64 KiB, and has their space allocated. Nobody else may
    /// write to that part of the file or make it shorter: the caller has it locked, in a folder of its own.
    ///
    /// # Errors
    /// No space, no memory, or no file that can be mapped.
    pub fn new(file: &File, at: u64, len: usize) -> io::Result<Self> {
        fallocate(file, FallocateFlags::empty(), at, len as u64)?;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing of ours.
        let base = unsafe { mmap(std::ptr::null_mut(), len, access, MapFlags::SHARED, file, at)? };
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { base, len })
    }

    /// What is there.
    #[must_use]
    pub const fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping has this length and lives as long as this value; nobody else writes to it.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.len) }
    }

    /// What is there, to be changed.
    #[must_use]
    pub const fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and this is the only borrow.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr(), self.len) }
    }

    /// Puts a number at the beginning, all of it at once: after everything that was stored before in program order,
    /// in whatever mapping, and before everything that is stored later. A killed process stops between two
    /// instructions, so the file has this order.
    pub fn publish(&mut self, number: u64) {
        compiler_fence(Ordering::SeqCst);
        // SAFETY: the mapping begins at a page, so it is aligned, and it is longer than a page; no borrow of it is
        // alive.
        let place = unsafe { AtomicU64::from_ptr(self.base.as_ptr().cast()) };
        place.store(number.to_le(), Ordering::SeqCst);
        compiler_fence(Ordering::SeqCst);
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and every borrow of it has ended.
        let _unmapped = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::{Mapped, is_steady};
    use std::os::unix::fs::FileExt;

    #[test]
    fn is_the_file() {
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, b"old").unwrap();
        let mut mapped = Mapped::new(&file, 0, 8192).unwrap();
        assert_eq!((&mapped.bytes()[..4], mapped.bytes().len()), (&b"old\0"[..], 8192));
        mapped.bytes_mut()[8191] = 7;
        mapped.publish(0x0102);
        let mut found = [0; 8192];
        file.read_exact_at(&mut found, 0).unwrap();
        assert_eq!((&found[..8], found[8191]), (&[2, 1, 0, 0, 0, 0, 0, 0][..], 7));
        file.write_all_at(b"new", 100).unwrap();
        assert_eq!(&mapped.bytes()[100..103], b"new");
    }

    #[test]
    fn knows_where_overwriting_may_need_space() {
        assert!(!is_steady("/proc".as_ref()));
        assert!(!is_steady("/no/such/folder".as_ref()));
    }
}
