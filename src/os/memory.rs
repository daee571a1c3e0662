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
/// file. Those stay in the page cache, so the next use costs a minor fault for every 64 KiB, not a read.
pub fn settle() {
    // SAFETY: returns free pages of the heap; no pointer into live memory is affected.
    unsafe {
        libc::malloc_trim(0);
    }
    let Ok(maps) = std::fs::read_to_string("/proc/self/smaps") else {
        return;
    };
    for (begin, end) in clean(&maps) {
        let address = std::ptr::with_exposed_provenance_mut::<std::ffi::c_void>(begin);
        // SAFETY: the range is a private mapping of a file that cannot be written through and of which no page
        // was ever copied (see `clean`), so every page is that of the file and comes back from there when it is
        // touched. A failure leaves everything as it was.
        let _kept = unsafe { madvise(address, end - begin, Advice::LinuxDontNeed) };
    }
}

/// The same by a thread of its own a moment later, when the caller waits again: what the caller touches on its
/// way there would only be mapped anew. Nothing happens if there is no thread to be had.
pub fn settle_soon() {
    let later = || {
        std::thread::park_timeout(std::time::Duration::from_millis(50));
        settle();
    };
    // Memory stays as it is when no thread can be started.
    let _none = std::thread::Builder::new()
        .name("settle".to_owned())
        .stack_size(64 << 10)
        .spawn(later);
}

/// The mappings in `/proc/self/smaps` that are of a file, not writable, and without a page of their own. Relocated
/// data is not among them: it was written before it was made read-only, so it has anonymous pages.
fn clean(smaps: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut candidate = None;
    for line in smaps.lines() {
        if let Some(range) = file_mapping(line) {
            candidate = range;
        } else if let Some(rest) = line.strip_prefix("Anonymous:")
            && let Some(range) = candidate.take()
            && rest.trim() == "0 kB"
        {
            found.push(range);
        }
    }
    found
}

/// `None`: no line that begins a mapping. `Some(None)`: one that is to be left alone.
fn file_mapping(line: &str) -> Option<Option<(usize, usize)>> {
    let mut fields = line.split_ascii_whitespace();
    let (begin, end) = fields.next()?.split_once('-')?;
    let range = (
        usize::from_str_radix(begin, 16).ok()?,
        usize::from_str_radix(end, 16).ok()?,
    );
    let kind = fields.next()?;
    let from_file = fields.nth(2)? != "0";
    Some((kind.starts_with('r') && !kind.contains('w') && kind.ends_with('p') && from_file).then_some(range))
}

#[cfg(test)]
mod tests {
    use super::{clean, settle, settle_soon};

    #[test]
    fn takes_only_unwritten_pages_of_files() {
        let mapping = |kind: &str, inode: &str, anonymous: u32| {
            format!(
                "55d0c0000000-55d0c0100000 {kind} 00001000 fe:00 {inode} /bin/x\nRss: 4 kB\nAnonymous: {anonymous} kB\nVmFlags: rd\n"
            )
        };
        let range = vec![(0x55d0_c000_0000, 0x55d0_c010_0000)];
        assert_eq!(clean(&mapping("r-xp", "77", 0)), range);
        assert_eq!(clean(&mapping("r--p", "77", 0)), range);
        assert_eq!(clean(&mapping("r--p", "77", 4)), [], "relocated data");
        assert_eq!(clean(&mapping("rw-p", "77", 0)), []);
        assert_eq!(clean(&mapping("r-xp", "0", 0)), [], "the vdso has no file");
        assert_eq!(clean("nonsense\nAnonymous: 0 kB\n"), []);
    }

    #[test]
    fn goes_on_running() {
        let before: Vec<u32> = (0..10_000).collect();
        settle();
        settle_soon();
        assert_eq!(before.iter().sum::<u32>(), 49_995_000);
    }
}
