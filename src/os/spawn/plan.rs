//! What to start.

use std::ffi::CString;
use std::os::fd::BorrowedFd;

use crate::os::cstrings::CStrings;

/// A program and everything it begins with. Descriptors that are not named here close on exec, except 0,
/// 1 and 2, which stay this process's own if they are not named.
#[derive(Clone, Debug, Default)]
pub struct SpawnPlan<'fd> {
    /// Program and arguments. A program without a slash is searched in the `PATH` of `env`.
    pub argv: CStrings,
    /// Its whole environment, as `NAME=value`.
    pub env: CStrings,
    /// Variables that are set to the child's own pid, such as `LISTEN_PID`.
    pub pid_vars: Vec<Vec<u8>>,
    /// Its working folder; `None` for this process's.
    pub cwd: Option<CString>,
    /// Descriptors: the number the child sees, and ours. They may overlap in any way.
    pub fds: Vec<(i32, BorrowedFd<'fd>)>,
    /// Its umask; `None` for this process's.
    pub umask: Option<u32>,
    /// Its soft limit of open descriptors; `None` for this process's.
    pub nofile: Option<u64>,
    /// Written to its `oom_score_adj` (best effort); `None` leaves this process's.
    pub oom_score_adj: Option<i32>,
    /// Signals it begins with blocked: bit n − 1 for signal n. Usually none.
    pub blocked: u64,
}

impl<'fd> SpawnPlan<'fd> {
    /// A plan to run this command line in this environment, nothing else changed.
    #[must_use]
    pub fn new(argv: CStrings, env: CStrings) -> Self {
        Self {
            argv,
            env,
            ..Self::default()
        }
    }

    /// The child gets `fd` as number `target`.
    #[must_use]
    pub fn with_fd(mut self, target: i32, fd: BorrowedFd<'fd>) -> Self {
        self.fds.push((target, fd));
        self
    }
}
