//! A spare copy of the manager's end of a channel, which the app itself carries: its channel does not end when
//! keeper and daemon die together, and the next manager takes its end back from there.
//!
//! The copy has the highest free number up to 15. Node marks all numbers up to there close-on-exec when it starts,
//! and Python, Ruby, Go and Rust close what they do not know before they execute anything, so children of an app
//! rarely have it. A child that has does no harm: only as long as it lives, the app does not see that a manager
//! which is gone for good has hung up.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use crate::os::{fds, pidfd};

/// Numbers that a copy may have.
const HIGHEST: i32 = 15;
const LOWEST: i32 = 8;

/// The number for a copy in a process with these descriptors; none if too many are taken.
#[must_use]
pub fn number(taken: &[i32]) -> Option<i32> {
    (LOWEST..=HIGHEST).rev().find(|number| !taken.contains(number))
}

/// Takes our end of the channel, whose other end is the descriptor `channel` of the process, back from it. The
/// number may mean something else by now, so it is ours only if it is another end of a pair without names that was
/// made by the same process as the channel, and not by the app.
///
/// # Errors
/// `NotFound`: the app has closed its channel. Otherwise the copy is gone, or this process may not take it (`EPERM`: another user's, or the system restricts ptrace
/// to descendants and this is not root).
pub fn take_back(process: BorrowedFd<'_>, pid: i32, channel: i32) -> io::Result<OwnedFd> {
    let closed = || io::Error::from(io::ErrorKind::NotFound);
    let theirs = pidfd::descriptor(process, channel).map_err(|error| match error.raw_os_error() {
        Some(libc::EBADF) => closed(),
        Some(_) | None => error,
    })?;
    let maker = maker(&theirs)?.filter(|maker| *maker != pid).ok_or_else(closed)?;
    for number in (LOWEST..=HIGHEST).rev().filter(|number| *number != channel) {
        let Ok(ours) = pidfd::descriptor(process, number) else {
            continue;
        };
        let other_end = fds::inode(&ours)? != fds::inode(&theirs)?;
        if other_end && self::maker(&ours).is_ok_and(|other| other == Some(maker)) {
            return Ok(ours);
        }
    }
    Err(io::Error::other("the app has closed the spare copy of its other end"))
}

/// Who has made the pair that this socket is an end of; none if it is no end of a pair.
fn maker(socket: &OwnedFd) -> io::Result<Option<i32>> {
    let stream = UnixStream::from(socket.try_clone()?);
    let is_pair = stream.local_addr().is_ok_and(|name| name.is_unnamed())
        && stream.peer_addr().is_ok_and(|name| name.is_unnamed());
    if !is_pair {
        return Ok(None);
    }
    Ok(Some(fds::peer_cred(stream.as_fd())?.pid).filter(|pid| *pid > 0))
}

#[cfg(test)]
mod tests {
    use super::{number, take_back};
    use crate::os::cstrings::CStrings;
    use crate::os::spawn::{SpawnPlan, spawn};
    use crate::os::{fds, pidfd, reap};
    use std::os::fd::AsFd;

    #[test]
    fn the_highest_free_number_is_used() {
        assert_eq!(number(&[0, 1, 2, 3]), Some(15));
        assert_eq!(number(&[15, 3, 14]), Some(13));
        assert_eq!(number(&(0..20).collect::<Vec<_>>()), None);
    }

    #[test]
    fn only_the_other_end_is_taken_back() {
        let (ours, theirs) = fds::socketpair().unwrap();
        let (pipe, _end) = fds::pipe().unwrap();
        let sleep = |placed: &[(i32, &std::os::fd::OwnedFd)]| {
            let mut plan = SpawnPlan::new(
                CStrings::from_iter(["sleep", "1000"]),
                CStrings::from_iter(["PATH=/usr/bin:/bin"]),
            );
            plan.fds = placed.iter().map(|(number, fd)| (*number, fd.as_fd())).collect();
            spawn(&plan).unwrap()
        };
        for (placed, found) in [
            (vec![(3, &theirs), (14, &ours), (15, &pipe)], true),
            (vec![(3, &theirs), (15, &theirs)], false),
            (vec![(3, &theirs), (15, &pipe)], false),
            (vec![(3, &pipe), (15, &ours)], false),
            (vec![(15, &ours)], false),
        ] {
            let child = sleep(&placed);
            let result = take_back(child.pidfd.as_fd(), child.pid, 3);
            assert_eq!(result.is_ok(), found, "{placed:?} {result:?}");
            if let Ok(taken) = result {
                assert_eq!(fds::inode(&taken).unwrap(), fds::inode(&ours).unwrap());
            }
            pidfd::signal(&child.pidfd, 9, pidfd::Scope::Process).unwrap();
            reap::one(child.pid).unwrap();
        }
    }
}
