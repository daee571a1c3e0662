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
//!  SIGUSR1     ─► Detach to the daemon ─► it writes what is left ─► Exit ─► keeper leaves, code 0; the apps live on
//!  SIGUSR2     ─► Reopen to the daemon ─► it opens all log files anew
//! ```
//!
//! It can be replaced by another build while everything goes on: see `upgrade` for how, and `handover` for what one
//! build tells the next.
//!
//! One thread, one epoll loop, no runtime, no parser of user input. After start-up nothing here ends the
//! process but `Exit`: a failed system call is answered with `SpawnFailed` or `Refused`, a broken link is a
//! dead daemon. Descriptors held for apps live above number 63, so that spawning stays as fast with a
//! thousand apps as with one (see `os::spawn`).

pub mod link;
pub mod protocol;

mod begin;
mod children;
mod daemon;
mod error;
mod handover;
mod launch;
mod leaving;
mod orphan;
mod restart;
mod resume;
mod runtime;
mod serve;
mod service;
mod state;
mod upgrade;

pub use begin::{KeeperOptions, run, run_with};
pub use daemon::{DaemonProcess, DaemonStarter, ExecDaemon, LINK_FD, LINK_VAR, READY_FD, READY_VAR};
pub use error::KeeperError;
pub use resume::{ResumeOptions, check_state, resume};
pub use runtime::{ERR, OUT, RuntimeOptions};
pub use service::SERVICE_VAR;

#[cfg(test)]
mod tests;
