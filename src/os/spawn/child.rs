//! What the child does between clone and exec. It shares the parent's memory, so everything is prepared
//! before, and nothing here allocates, locks or unwinds.

use std::ffi::{CString, c_char, c_int, c_void};
use std::os::fd::AsRawFd;

use super::path::candidates;
use super::plan::SpawnPlan;
use super::step::{SpawnError, Step};
use crate::os::cstrings::CStrings;

/// Room for a pid and its NUL.
const PID_ROOM: usize = 12;

/// Everything the child needs, in the parent's memory.
pub(super) struct Child {
    paths: Vec<*const c_char>,
    argv: Vec<*const c_char>,
    env: Vec<*const c_char>,
    /// `NAME=` and [`PID_ROOM`] bytes; `env` points to their beginnings.
    pid_vars: Vec<(Box<[u8]>, usize)>,
    cwd: Option<CString>,
    /// (number in the child, ours, a copy above all targets or -1)
    fds: Vec<(c_int, c_int, c_int)>,
    /// First number that is neither a source nor a target.
    above: c_int,
    /// First number that is no source, and above 2: what the child need not copy.
    cut: c_int,
    umask: Option<libc::mode_t>,
    nofile: Option<libc::rlimit>,
    oom: Option<CString>,
    blocked: u64,
    step: Option<Step>,
    errno: c_int,
    /// What the pointers above point into.
    _strings: [CStrings; 3],
}

impl Child {
    pub(super) fn prepare(plan: &SpawnPlan<'_>) -> Result<Self, SpawnError> {
        let invalid = SpawnError::new(Step::Plan, libc::EINVAL);
        let program = plan.argv.iter().next().filter(|program| !program.is_empty());
        let paths = candidates(program.ok_or(SpawnError::new(Step::Plan, libc::ENOENT))?, &plan.env);
        let argv = plan.argv.clone();
        let env = environment(plan);
        let mut pid_vars: Vec<(Box<[u8]>, usize)> = plan.pid_vars.iter().map(|name| pid_var(name)).collect();
        let mut env_pointers = env.pointers();
        env_pointers.pop();
        for (text, _) in &mut pid_vars {
            env_pointers.push(text.as_mut_ptr().cast_const().cast());
        }
        env_pointers.push(std::ptr::null());
        let fds: Vec<_> = plan
            .fds
            .iter()
            .map(|(target, fd)| (*target, fd.as_raw_fd(), -1))
            .collect();
        let highest = fds.iter().map(|(_, source, _)| *source).max().unwrap_or(0).max(2);
        let targets = fds.iter().map(|(target, _, _)| *target);
        if targets.clone().any(|target| target < 0) {
            return Err(invalid);
        }
        let above = highest.max(targets.max().unwrap_or(0)).checked_add(1).ok_or(invalid)?;
        let nofile = plan.nofile.map(|soft| {
            let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
            let maximum = limit.maximum.unwrap_or(libc::RLIM_INFINITY);
            libc::rlimit {
                rlim_cur: soft.min(maximum),
                rlim_max: maximum,
            }
        });
        Ok(Self {
            paths: paths.pointers(),
            argv: argv.pointers(),
            env: env_pointers,
            pid_vars,
            cwd: plan.cwd.clone(),
            fds,
            above,
            cut: highest + 1,
            umask: plan.umask,
            nofile,
            oom: plan
                .oom_score_adj
                .and_then(|value| CString::new(value.to_string()).ok()),
            blocked: plan.blocked,
            step: None,
            errno: 0,
            _strings: [paths, argv, env],
        })
    }

    /// What the child wrote before it gave up.
    pub(super) fn failure(&self) -> Option<SpawnError> {
        // SAFETY: plain reads of our own fields; volatile because another process (sharing the memory)
        // has written them behind the compiler's back.
        let (step, errno) = unsafe {
            (
                std::ptr::read_volatile(&raw const self.step),
                std::ptr::read_volatile(&raw const self.errno),
            )
        };
        step.map(|step| SpawnError::new(step, errno))
    }

    /// All steps in order; returns only if one failed.
    fn go(&mut self) -> (Step, c_int) {
        match self.steps() {
            Ok(()) => self.execute(),
            Err(step) => (step, errno()),
        }
    }

    fn steps(&mut self) -> Result<(), Step> {
        self.unshare_descriptors()?;
        reset_signal_actions();
        // SAFETY: system calls on this process's own attributes, with pointers that live in `self`.
        unsafe {
            if libc::setsid() < 0 {
                return Err(Step::Session);
            }
            self.place_descriptors()?;
            if let Some(folder) = &self.cwd
                && libc::chdir(folder.as_ptr()) != 0
            {
                return Err(Step::Chdir);
            }
            if let Some(mask) = self.umask {
                libc::umask(mask);
            }
            if let Some(limit) = &self.nofile
                && libc::setrlimit(libc::RLIMIT_NOFILE, limit) != 0
            {
                return Err(Step::Limits);
            }
            self.reset_oom_score();
        }
        self.write_pid();
        restore_signals(self.blocked);
        Ok(())
    }

    /// Stops sharing the parent's table. What lies above the highest source is not even copied.
    fn unshare_descriptors(&self) -> Result<(), Step> {
        // SAFETY: affects this process's table only: the flag says to take an own copy first.
        let done = unsafe {
            libc::syscall(
                libc::SYS_close_range,
                self.cut,
                libc::c_uint::MAX,
                libc::CLOSE_RANGE_UNSHARE,
            )
        };
        // SAFETY: no pointers; a kernel without close_range copies the whole table.
        if done == 0 || unsafe { libc::unshare(libc::CLONE_FILES) } == 0 {
            return Ok(());
        }
        Err(Step::Unshare)
    }

    fn place_descriptors(&mut self) -> Result<(), Step> {
        // SAFETY: calls on this process's own table. Everything closes on exec; `dup2` clears that for the
        // descriptors it places. Kernels before 5.11 refuse the flag, and there all our descriptors were
        // opened with it anyway.
        unsafe {
            libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
        }
        for at in 0..self.fds.len() {
            let Some((target, source, _)) = self.fds.get(at).copied() else {
                continue;
            };
            // A source that is somebody else's target must be out of the way before that is placed.
            let mut others = self.fds.iter().enumerate();
            if others.any(|(other, entry)| other != at && entry.0 == source) && source != target {
                // SAFETY: as above.
                let copy = unsafe { libc::fcntl(source, libc::F_DUPFD_CLOEXEC, self.above) };
                if copy < 0 {
                    return Err(Step::Descriptors);
                }
                if let Some(entry) = self.fds.get_mut(at) {
                    entry.2 = copy;
                }
            }
        }
        for (target, source, copy) in &self.fds {
            let from = if *copy >= 0 { *copy } else { *source };
            // SAFETY: as above.
            let placed = unsafe {
                if from == *target {
                    libc::fcntl(from, libc::F_SETFD, 0)
                } else {
                    libc::dup2(from, *target)
                }
            };
            if placed < 0 {
                return Err(Step::Descriptors);
            }
        }
        Ok(())
    }

    fn reset_oom_score(&self) {
        let Some(text) = &self.oom else { return };
        let bytes = text.as_bytes();
        // SAFETY: the path is a C string, the bytes live in `self`. Best effort: lowering the score needs a
        // privilege, and running with the parent's is better than not running.
        unsafe {
            let fd = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
            if fd >= 0 {
                libc::write(fd, bytes.as_ptr().cast(), bytes.len());
                libc::close(fd);
            }
        }
    }

    /// Writes this process's pid into the variables that ask for it.
    fn write_pid(&mut self) {
        // SAFETY: has no arguments and cannot fail.
        let mut rest = unsafe { libc::getpid() }.unsigned_abs();
        let mut digits = [0_u8; PID_ROOM];
        let mut length = 0;
        while rest > 0 {
            if let Some(slot) = digits.get_mut(length) {
                *slot = b'0' + u8::try_from(rest % 10).unwrap_or(0);
            }
            length += 1;
            rest /= 10;
        }
        for (text, begin) in &mut self.pid_vars {
            for (slot, digit) in text.iter_mut().skip(*begin).zip(digits.iter().take(length).rev()) {
                *slot = *digit;
            }
        }
    }

    /// Tries the candidates as a shell would: one that is not there or may not be executed leads to the
    /// next, anything else is the answer.
    fn execute(&self) -> (Step, c_int) {
        let mut answer = libc::ENOENT;
        for path in &self.paths {
            if path.is_null() {
                break;
            }
            // SAFETY: the path and both arrays are NUL-terminated and live in the parent's memory, whose
            // thread is suspended.
            unsafe { libc::execve(*path, self.argv.as_ptr(), self.env.as_ptr()) };
            match errno() {
                libc::ENOENT => {
                    // SAFETY: as above. It is there, so it is the interpreter that is not.
                    if unsafe { libc::access(*path, libc::F_OK) } == 0 {
                        return (Step::Interpreter, libc::ENOENT);
                    }
                }
                libc::EACCES => answer = libc::EACCES,
                libc::ENOTDIR if self.paths.len() > 2 => {}
                other => return (Step::Exec, other),
            }
        }
        (Step::Exec, answer)
    }
}

/// Runs in the child.
pub(super) extern "C" fn run(argument: *mut c_void) -> c_int {
    // SAFETY: the parent passes its `Child`, which it does not touch while it is suspended.
    let child = unsafe { &mut *argument.cast::<Child>() };
    let (step, errno) = child.go();
    // SAFETY: our own fields; volatile for the reader in the other process. `_exit` runs no destructor of
    // the parent's.
    unsafe {
        std::ptr::write_volatile(&raw mut child.errno, errno);
        std::ptr::write_volatile(&raw mut child.step, Some(step));
        libc::_exit(127)
    }
}

fn environment(plan: &SpawnPlan<'_>) -> CStrings {
    if plan.pid_vars.is_empty() {
        return plan.env.clone();
    }
    let asks = |entry: &&[u8]| {
        !plan.pid_vars.iter().any(|name| {
            entry
                .strip_prefix(name.as_slice())
                .is_some_and(|rest| rest.first() == Some(&b'='))
        })
    };
    plan.env.iter().filter(asks).collect()
}

fn pid_var(name: &[u8]) -> (Box<[u8]>, usize) {
    let mut text = Vec::with_capacity(name.len() + 1 + PID_ROOM);
    text.extend(name.iter().filter(|byte| **byte != 0 && **byte != b'='));
    text.push(b'=');
    let begin = text.len();
    text.resize(begin + PID_ROOM, 0);
    (text.into_boxed_slice(), begin)
}

/// Sets every signal to its default action. A handler would be dropped by exec, but an ignored signal
/// (SIGPIPE in this program, SIGHUP under nohup) would stay ignored.
fn reset_signal_actions() {
    // The kernel's own structure, all zero: SIG_DFL, no flags, empty mask. The system call is used because
    // the library refuses the two signals it keeps for itself.
    let default = [0_u64; 4];
    for signal in 1..=64 {
        // SAFETY: the structure is at least as large as the kernel's; actions are not shared with the
        // parent (no CLONE_SIGHAND). SIGKILL and SIGSTOP are refused, which is fine.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null_mut::<c_void>(),
                8_usize,
            )
        };
    }
}

/// Blocks every signal for this thread, the library's own too, and returns the mask from before: no
/// handler of the parent may run in the child.
pub(super) fn block_all_signals() -> u64 {
    let all = u64::MAX;
    let mut before = 0_u64;
    // SAFETY: both masks are eight bytes, as the last argument says.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const all,
            &raw mut before,
            8_usize,
        )
    };
    before
}

/// Sets this thread's signal mask.
pub(super) fn restore_signals(mask: u64) {
    // SAFETY: as above; the old mask is not asked for.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const mask,
            std::ptr::null_mut::<u64>(),
            8_usize,
        )
    };
}

/// Reaps a child that has given up; it has exited or is about to.
pub(super) fn collect(pid: c_int) {
    // SAFETY: waits for our own child, with no status wanted.
    while unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) } < 0 && errno() == libc::EINTR {}
}

fn errno() -> c_int {
    // SAFETY: always a valid pointer to this thread's own variable.
    unsafe { *libc::__errno_location() }
}
