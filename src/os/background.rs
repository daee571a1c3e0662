//! Work that can wait.

/// `IOPRIO_WHO_PROCESS`, `IOPRIO_CLASS_IDLE` in its place, of ioprio_set(2); libc has no names for them.
const WHO_PROCESS: libc::c_int = 1;
const IDLE: libc::c_int = 3 << 13;

/// Gives the calling thread the lowest priority, and of the disk what nobody else wants, where the I/O scheduler knows
/// that. There is no way back. Failing costs priority only.
pub fn lower_priority() {
    // Of this thread only: on Linux the nice value belongs to the thread.
    let _niced = rustix::process::setpriority_process(None, 19);
    // SAFETY: takes three numbers and no pointer; 0 is the calling thread.
    let _idle = unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, IDLE) };
}

#[cfg(test)]
mod tests {
    use super::{IDLE, WHO_PROCESS, lower_priority};

    #[test]
    fn a_thread_is_lowered_alone() {
        let class = || {
            // SAFETY: as above.
            unsafe { libc::syscall(libc::SYS_ioprio_get, WHO_PROCESS, 0) }
        };
        let (nice, before) = (rustix::process::getpriority_process(None).unwrap(), class());
        let lowered = std::thread::spawn(move || {
            lower_priority();
            (rustix::process::getpriority_process(None).unwrap(), class())
        });
        let (low, io) = lowered.join().unwrap();
        assert_eq!(low, 19);
        if io != i64::from(IDLE) {
            eprintln!("SKIPPED: this kernel has no I/O classes");
        }
        assert_eq!(
            (rustix::process::getpriority_process(None).unwrap(), class()),
            (nice, before)
        );
    }
}
