//! The keeper: the parent of every app and of the daemon. It decides nothing.
//!
//! ```text
//!            Spawn, Ack, Release, Store …                     fork, reap
//!  daemon ──────────────────────────────► keeper ──────────────────────────► apps
//!         ◄──────────────────────────────
//!            Spawned, Exited, Children …
//!
//!  daemon dies ─► link ends ─► keeper starts another (0, 100 ms, 200 ms … 1 s; from 0 again after half a second)
//!              ─► Hello ─► Welcome, every exit not acknowledged ─► Table ─► Children ─► as before
//!  SIGTERM     ─► Terminate to the daemon ─► it stops the apps ─► Exit ─► keeper leaves, code 0
//! ```
//!
//! One thread, one epoll loop, no runtime, no parser of user input. After start-up nothing here ends the
//! process but `Exit`: a failed system call is answered with `SpawnFailed` or `Refused`, a broken link is a
//! dead daemon. Descriptors held for apps live above number 63, so that spawning stays as fast with a
//! thousand apps as with one (see `os::spawn`).

pub mod link;
pub mod protocol;

mod children;
mod daemon;
mod error;
mod launch;
mod restart;
mod serve;
mod state;

pub use daemon::{DaemonProcess, DaemonStarter, ExecDaemon, LINK_FD, LINK_VAR, READY_FD, READY_VAR};
pub use error::KeeperError;
pub use serve::{KeeperOptions, run, run_with};

#[cfg(test)]
mod tests;
