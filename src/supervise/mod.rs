//! The core: decides everything about starting, stopping, restarting and replacing, and does nothing.
//!
//! `handle(now, input)` takes one thing that happened; `poll_output()` gives what is to be done about it, in
//! order; `poll_timeout()` says when to come again. No clock, no system call, no thread: days of virtual time
//! run in milliseconds of test, and a recorded run can be replayed.
//!
//! ```text
//!   Command ──▶ plan ──refused──▶ Reply
//!                │ possible
//!                ▼
//!              Commit ──on disk──▶ execute ──▶ Spawn / Stop / … ──▶ goals met ──▶ Reply
//! ```
//!
//! Nothing that a command asks for happens before it is on disk, and a command is answered when its effect has
//! happened. The life of one process is drawn in [`run`], of a generation in [`rollout`], of a circuit in
//! [`policy::breaker`].

pub mod app;
mod apply;
mod core;
mod cx;
mod demand;
mod due;
mod ending;
mod execute;
mod failing;
mod failure;
mod goal;
mod health;
mod input;
mod leaving;
mod lifecycle;
mod output;
pub mod persist;
mod plan;
pub mod policy;
mod progress;
mod replacing;
mod resume;
mod rolling;
pub mod rollout;
pub mod run;
pub mod said;
pub mod slot;
pub mod stored;

#[cfg(test)]
mod sim;

pub use self::core::Core;
pub use self::input::{Command, Input, Ticket};
pub use self::output::{Change, CrashDraft, EventDraft, Output};
