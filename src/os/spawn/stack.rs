//! A stack for a child that shares this process's memory.

use std::ffi::c_void;

use super::step::last_errno;

const SIZE: usize = 64 * 1024;
const GUARD: usize = 64 * 1024;

/// Mapped memory with an inaccessible guard below it: running out of it is a fault, never a silent
/// overwrite of something else. The guard is as large as the largest page size there is.
pub(super) struct Stack {
    base: *mut c_void,
}

// SAFETY: the mapping belongs to the process, not to a thread, and is only used through its owner.
unsafe impl Send for Stack {}

impl Stack {
    pub(super) fn new() -> Result<Self, i32> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK | libc::MAP_NORESERVE;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches nothing of ours.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), GUARD + SIZE, libc::PROT_NONE, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(last_errno());
        }
        let stack = Self { base };
        // SAFETY: the range lies within the mapping made above.
        let changed = unsafe { libc::mprotect(base.byte_add(GUARD), SIZE, libc::PROT_READ | libc::PROT_WRITE) };
        if changed != 0 {
            return Err(last_errno());
        }
        Ok(stack)
    }

    /// The highest address: stacks grow down on every architecture this is built for. A page boundary,
    /// so aligned for every ABI.
    pub(super) fn top(&self) -> *mut c_void {
        // SAFETY: one past the end of the mapping.
        unsafe { self.base.byte_add(GUARD + SIZE) }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nobody runs on it: its user is suspended while it is in use.
        unsafe { libc::munmap(self.base, GUARD + SIZE) };
    }
}
