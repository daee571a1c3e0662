//! Waiting for many descriptors.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

use crate::model::duration::Millis;

/// Something happened to a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The number it was added with.
    pub token: u64,
    /// It can be read, or has ended.
    pub readable: bool,
    /// It can be written, or has failed.
    pub writable: bool,
}

/// A set of descriptors to wait for. Level-triggered: what is not dealt with is reported again.
pub struct Epoll {
    fd: OwnedFd,
    events: Vec<Event>,
}

/// A descriptor that becomes readable when one of these sockets does. Each wakes it once at most, whatever happens to
/// it later.
///
/// # Errors
/// No descriptors left, or one of them cannot be waited for.
pub fn bell<'a>(sockets: impl Iterator<Item = &'a OwnedFd>) -> io::Result<OwnedFd> {
    let fd = epoll::create(CreateFlags::CLOEXEC)?;
    for socket in sockets {
        // Two workers may have one queue.
        match epoll::add(&fd, socket, EventData::new_u64(0), EventFlags::IN | EventFlags::ONESHOT) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(fd)
}

impl std::fmt::Debug for Epoll {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Epoll").field("fd", &self.fd).finish_non_exhaustive()
    }
}

impl Epoll {
    /// An empty set.
    ///
    /// # Errors
    /// No descriptors left.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            fd: epoll::create(CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(64),
        })
    }

    /// Waits for `fd` to become readable from now on.
    ///
    /// # Errors
    /// It is in the set already, or cannot be waited for.
    pub fn add(&self, fd: impl AsFd, token: u64) -> io::Result<()> {
        Ok(epoll::add(&self.fd, fd, EventData::new_u64(token), EventFlags::IN)?)
    }

    /// Waits for `fd` to become writable too, or not any more.
    ///
    /// # Errors
    /// It is not in the set.
    pub fn want_write(&self, fd: impl AsFd, token: u64, write: bool) -> io::Result<()> {
        let flags = if write {
            EventFlags::IN | EventFlags::OUT
        } else {
            EventFlags::IN
        };
        Ok(epoll::modify(&self.fd, fd, EventData::new_u64(token), flags)?)
    }

    /// Takes `fd` out of the set. Needed even before closing it if others share the open file.
    pub fn remove(&self, fd: impl AsFd) {
        // It was not in the set: then it is not now either.
        let _ = epoll::delete(&self.fd, fd);
    }

    /// Waits for something to happen, at most this long; `None` waits for ever. `into` is emptied first.
    ///
    /// # Errors
    /// Nothing that a correct program meets; a signal is no error.
    pub fn wait(&mut self, wait: Option<Millis>, into: &mut Vec<Ready>) -> io::Result<()> {
        into.clear();
        let timeout = wait.map(|wait| Timespec {
            tv_sec: i64::try_from(wait.0 / 1000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(wait.0 % 1000 * 1_000_000).unwrap_or(0),
        });
        self.events.clear();
        match epoll::wait(&self.fd, spare_capacity(&mut self.events), timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        into.extend(self.events.iter().map(|event| {
            // The structure is packed: copy its fields before looking at them.
            let (flags, data) = (event.flags, event.data);
            let ended = EventFlags::HUP | EventFlags::ERR | EventFlags::RDHUP;
            Ready {
                token: data.u64(),
                readable: flags.intersects(EventFlags::IN | ended),
                writable: flags.intersects(EventFlags::OUT | EventFlags::ERR),
            }
        }));
        Ok(())
    }
}
