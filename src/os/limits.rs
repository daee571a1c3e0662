//! Resource limits and the number of CPUs.

use std::io::{self, Write};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const OOM_SCORE_ADJ: &str = "/proc/self/oom_score_adj";

/// Raises the soft limit of open descriptors to the hard one and returns the soft limit from before,
/// which children should get back: programs that use `select` break above 1024. `None` is unlimited.
///
/// # Errors
/// The kernel refuses; nothing has changed then.
pub fn raise_nofile() -> io::Result<Option<u64>> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        setrlimit(Resource::Nofile, raised)?;
    }
    Ok(limit.current)
}

/// The soft limit of open descriptors; `None` is unlimited.
#[must_use]
pub fn nofile() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// Descriptors that this process can still open before it meets its soft limit; `u64::MAX` where there is none, or
/// where it cannot be told.
#[must_use]
pub fn free_descriptors() -> u64 {
    let Some(limit) = nofile() else { return u64::MAX };
    open_descriptors().map_or(u64::MAX, |open| limit.saturating_sub(open))
}

/// Descriptors that this process has open.
fn open_descriptors() -> Option<u64> {
    const FOLDER: &str = "/proc/self/fd";
    // Since Linux 6.2 the folder's size is their number.
    let size = std::fs::metadata(FOLDER).ok()?.len();
    if size > 0 {
        return Some(size);
    }
    Some(std::fs::read_dir(FOLDER).ok()?.count() as u64)
}

/// What keeper and daemon ask the kernel for when memory runs out: to be among the last to be killed, but not exempt
/// like -1000, so that a fault of their own still has an end.
pub const PROTECTED: i32 = -900;

/// How likely the kernel kills this process when memory runs out, -1000 to 1000; 0 where it cannot be told.
#[must_use]
pub fn oom_score_adj() -> i32 {
    let text = std::fs::read_to_string(OOM_SCORE_ADJ).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

/// Makes this process one of the last that the kernel kills when memory runs out; a process that is safer already
/// stays so. Lowering the score needs `CAP_SYS_RESOURCE`: without it nothing changes, which is no error.
pub fn protect() {
    if oom_score_adj() <= PROTECTED {
        return;
    }
    let file = std::fs::OpenOptions::new().write(true).open(OOM_SCORE_ADJ);
    if let Ok(mut file) = file {
        drop(file.write_all(PROTECTED.to_string().as_bytes()));
    }
}

/// CPUs this process may use: its affinity and its cgroup's quota (v1 and v2) rounded down, at least 1.
#[must_use]
pub fn cpus() -> u32 {
    std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::{cpus, free_descriptors, nofile, open_descriptors, raise_nofile};

    #[test]
    fn descriptors_are_counted() {
        let listed = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
        // Other tests open and close some in between.
        assert!(open_descriptors().unwrap().abs_diff(listed) < 200);
        assert!(free_descriptors() > 0);
    }

    #[test]
    fn raising_reports_what_was_there() {
        let before = nofile();
        assert_eq!(raise_nofile().unwrap(), before);
        let raised = nofile();
        assert_eq!(raise_nofile().unwrap(), raised);
        assert!(cpus() >= 1);
    }
}
