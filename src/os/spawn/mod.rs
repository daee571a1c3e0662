//! Starting a program.
//!
//! ```text
//! parent                                child (same memory, own stack, parent's thread suspended)
//!   prepare strings, paths, table
//!   block all signals
//!   clone(VM, VFORK, FILES, PIDFD) ──►  own descriptor table up to the highest one needed
//!   (suspended)                         default signal actions, new session, descriptors, folder,
//!                                       umask, limits, empty mask, execve
//!   result in shared memory       ◄──  exec done, or (step, errno) written and _exit
//!   restore signals
//! ```
//!
//! No page table is copied. Nor is the table of descriptors: the child shares it and then takes a copy
//! of the part below the highest descriptor it needs, so a parent that keeps its thousands of
//! descriptors above the low numbers (`os::fds::lift`) starts its last child as fast as its first.

mod child;
mod path;
mod plan;
mod stack;
mod step;

pub use plan::SpawnPlan;
pub use step::{SpawnError, Step, describe};

use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use child::Child;
use stack::Stack;

/// A process that executes its program.
#[derive(Debug)]
pub struct Spawned {
    /// Its pid, which is also its process group and session.
    pub pid: i32,
    /// Refers to it even after its pid is used again. Closes on exec.
    pub pidfd: OwnedFd,
}

/// One stack is enough: the thread that uses it is suspended until the child has left it.
static STACK: Mutex<Option<Stack>> = Mutex::new(None);

/// Starts a program as a child of this process. Returns when the program executes or a step failed; in
/// the latter case nothing is left to reap.
///
/// # Errors
/// The step that failed and its errno.
pub fn spawn(plan: &SpawnPlan<'_>) -> Result<Spawned, SpawnError> {
    let mut child = Child::prepare(plan)?;
    let mut guard = STACK.lock().unwrap_or_else(PoisonError::into_inner);
    let stack = match guard.take() {
        Some(stack) => stack,
        None => Stack::new().map_err(|errno| SpawnError::new(Step::Clone, errno))?,
    };
    let stack = guard.insert(stack);
    let mut pidfd: libc::c_int = -1;
    let mask = child::block_all_signals();
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_FILES | libc::CLONE_PIDFD | libc::SIGCHLD;
    // SAFETY: the stack is mapped, aligned, used by nobody else (the mutex is held) and stays mapped:
    // CLONE_VFORK suspends this thread until the child has executed a program or exited. `child` and
    // `pidfd` outlive that moment for the same reason. The child runs `child::run` only, which neither
    // allocates nor unwinds nor takes a lock.
    let pid = unsafe {
        libc::clone(
            child::run,
            stack.top(),
            flags,
            std::ptr::from_mut(&mut child).cast(),
            &raw mut pidfd,
        )
    };
    let errno = step::last_errno();
    child::restore_signals(mask);
    drop(guard);
    if pid < 0 {
        return Err(SpawnError::new(Step::Clone, errno));
    }
    // SAFETY: with CLONE_PIDFD a successful clone has opened this descriptor for us alone.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    match child.failure() {
        None => Ok(Spawned { pid, pidfd }),
        Some(error) => {
            child::collect(pid);
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests;
