//! Descriptors watched by the runtime.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Watches the descriptor of `inner` for reading.
///
/// # Errors
/// The runtime's epoll set does not take it.
pub fn for_reading<T: AsFd + AsRawFd>(inner: T) -> io::Result<AsyncFd<T>> {
    register(inner, Interest::READABLE)
}

/// Watches the descriptor of `inner` for reading and writing.
///
/// # Errors
/// The runtime's epoll set does not take it.
pub fn for_both<T: AsFd + AsRawFd>(inner: T) -> io::Result<AsyncFd<T>> {
    register(inner, Interest::READABLE | Interest::WRITABLE)
}

fn register<T: AsFd + AsRawFd>(inner: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    // SAFETY: the types of this program that implement both traits (owned descriptors, shared ones, the
    // keeper's link) own the one descriptor they answer with as long as they live, and `AsyncFd` keeps the
    // value until it has taken the descriptor out of its epoll set.
    unsafe { AsyncFd::register_with_interest(inner, interest) }.map_err(io::Error::from)
}
