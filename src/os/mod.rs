//! The border with the kernel: every system call that needs more than a safe wrapper, every `unsafe`
//! of this program, and the only places that read clocks.
//!
//! Functions here are small, decide nothing, and never wait unless their documentation says so.

#![expect(
    unsafe_code,
    reason = "the one place for system calls without a safe wrapper; each use argues its safety"
)]

pub mod background;
pub mod clock;
pub mod connections;
pub mod console;
pub mod cstrings;
pub mod detach;
pub mod epoll;
pub mod exec;
pub mod fds;
pub mod former;
pub mod fsx;
pub mod holder;
pub mod home;
pub mod limits;
pub mod listening;
pub mod lock;
pub mod mapped;
pub mod marked;
pub mod memory;
pub mod notify;
pub mod pidfd;
pub mod plain;
pub mod poll;
pub mod procfs;
pub mod queue;
pub mod reap;
pub mod reuseport;
pub mod running;
pub mod service;
pub mod signals;
pub mod socket;
pub mod spare;
pub mod spawn;
pub mod tree;
pub mod usage;
pub mod watch;
pub mod zone;
