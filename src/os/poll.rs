//! Waiting for one descriptor.

use std::io;
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::model::duration::Millis;

/// Waits until `fd` is readable, closed or in error, at most this long; true if it is.
///
/// # Errors
/// The descriptor cannot be polled.
pub fn readable(fd: impl AsFd, wait: Millis) -> io::Result<bool> {
    Ok(events(fd, PollFlags::IN, wait)?.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR))
}

/// True if something can be read from `fd` now; that its other end is closed is nothing to read.
#[must_use]
pub fn has_bytes(fd: impl AsFd) -> bool {
    events(fd, PollFlags::IN, Millis::ZERO).is_ok_and(|events| events.contains(PollFlags::IN))
}

/// Waits this long, or until a signal comes. For start-up only: who has a loop has timers.
pub fn pause(wait: Millis) {
    let timeout = Timespec {
        tv_sec: i64::try_from(wait.0 / 1000).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(wait.0 % 1000 * 1_000_000).unwrap_or(0),
    };
    // A signal only makes it shorter.
    let _interrupted = poll(&mut [], Some(&timeout));
}

/// The events of `fd` among `interest` (and error and hang-up, always), after waiting for one of them.
pub(crate) fn events(fd: impl AsFd, interest: PollFlags, wait: Millis) -> io::Result<PollFlags> {
    let mut fds = [PollFd::new(&fd, interest)];
    let deadline = crate::os::clock::monotonic().after(wait);
    loop {
        let left = deadline.since(crate::os::clock::monotonic());
        let timeout = Timespec {
            tv_sec: i64::try_from(left.0 / 1000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(left.0 % 1000 * 1_000_000).unwrap_or(0),
        };
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) => return Ok(fds[0].revents()),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::{has_bytes, readable};
    use crate::model::duration::Millis;

    #[test]
    fn an_end_is_readable_but_has_no_bytes() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        assert!(!has_bytes(&reader) && !readable(&reader, Millis::ZERO).unwrap());
        writer.write_all(b"x").unwrap();
        assert!(has_bytes(&reader));
        drop(writer);
        assert!(has_bytes(&reader));
        let (reader, _) = std::io::pipe().unwrap();
        assert!(!has_bytes(&reader) && readable(&reader, Millis::ZERO).unwrap());
    }
}
