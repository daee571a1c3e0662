//! Keeping a process that mostly waits small.

use rustix::mm::{Advice, madvise};

/// Few arenas and early return of memory: these processes have threads, but only one of them allocates much.
/// Call it before the first thread is started.
pub fn lean() {
    // SAFETY: both calls set a parameter of the allocator and touch nothing else; no other thread runs yet.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 128 << 10);
    }
}

/// Gives back what is not needed while nothing happens: free heap pages, and the mapped pages of the program's
/// code. Code pages stay in the page cache, so the next use costs a minor fault for every 64 KiB, not a read.
pub fn settle() {
    // SAFETY: returns free pages of the heap; no pointer into live memory is affected.
    unsafe {
        libc::malloc_trim(0);
    }
    let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else { return };
    for (begin, end) in maps.lines().filter_map(code) {
        let address = std::ptr::with_exposed_provenance_mut::<std::ffi::c_void>(begin);
        // SAFETY: the range is a mapping of this program's executable segment: private, read-only, never
        // written, so its pages are exactly those of the file and come back from there when they are touched.
        // A failure leaves everything as it was.
        let _kept = unsafe { madvise(address, end - begin, Advice::LinuxDontNeed) };
    }
}

/// The range of a line of `/proc/self/maps`, if it maps code from a file.
fn code(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (begin, end) = fields.next()?.split_once('-')?;
    let is_code = fields.next()? == "r-xp";
    let from_file = fields.nth(2)? != "0";
    let range = (usize::from_str_radix(begin, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    (is_code && from_file).then_some(range)
}

#[cfg(test)]
mod tests {
    use super::{code, settle};

    #[test]
    fn takes_only_code_that_comes_from_a_file() {
        let line = |kind: &str, inode: &str| format!("55d0c0000000-55d0c0100000 {kind} 00001000 fe:00 {inode} /bin/x");
        assert_eq!(code(&line("r-xp", "77")), Some((0x55d0_c000_0000, 0x55d0_c010_0000)));
        assert_eq!(code(&line("r--p", "77")), None, "relocated data is written once and then only read");
        assert_eq!(code(&line("rw-p", "77")), None);
        assert_eq!(code(&line("r-xp", "0")), None, "the vdso has no file");
    }

    #[test]
    fn goes_on_running() {
        let before: Vec<u32> = (0..10_000).collect();
        settle();
        assert_eq!(before.iter().sum::<u32>(), 49_995_000);
    }
}
