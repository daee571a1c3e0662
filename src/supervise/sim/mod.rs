//! The core against a fake world in virtual time.
//!
//! [`world`] is the clock, the keeper and the disk; [`perform`] does what the core asks for; [`check`] looks after
//! every step at what must always hold; [`succession`] kills the daemon and has every decision made twice. [`random`] drives it with random commands, [`scenarios`] and [`reloads`] with chosen ones,
//! [`disturbances`] are what happens to apps besides, and [`law`] holds the restart law against an independent implementation.

mod canary;
mod check;
mod disturbances;
mod law;
mod lost_orders;
mod on_demand;
mod perform;
mod programs;
mod random;
mod recycling;
mod reloads;
mod scenarios;
mod specs;
mod starving;
mod succession;
mod unhealthy;
mod world;
