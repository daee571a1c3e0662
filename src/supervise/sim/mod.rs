//! The core against a fake world in virtual time.
//!
//! [`world`] performs what the core asks for, kills the daemon when told to, and checks after every step what
//! must always hold. [`random`] drives it with random commands, [`scenarios`] and [`reloads`] with chosen ones,
//! and [`law`] holds the restart law against an independent implementation.

mod law;
mod random;
mod reloads;
mod scenarios;
mod specs;
mod world;
