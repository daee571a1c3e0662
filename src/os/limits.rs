//! Resource limits and the number of CPUs.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

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

/// CPUs this process may use: its affinity and its cgroup's quota (v1 and v2) rounded down, at least 1.
#[must_use]
pub fn cpus() -> u32 {
    std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::{cpus, nofile, raise_nofile};

    #[test]
    fn raising_reports_what_was_there() {
        let before = nofile();
        assert_eq!(raise_nofile().unwrap(), before);
        let raised = nofile();
        assert_eq!(raise_nofile().unwrap(), raised);
        assert!(cpus() >= 1);
    }
}
