//! The vocabulary: names, ids, specs, states, exits, sizes, durations, events.
//!
//! Everything here is plain data with a checked constructor; nothing reads a clock, a file or the
//! environment. Every other module may use this one, and this one uses none.

pub mod balance;
pub mod custom;
pub mod duration;
pub mod env;
pub mod event;
pub mod exit;
pub mod health;
pub mod level;
pub mod listen;
pub mod logspec;
pub mod names;
pub mod ostext;
pub mod outcome;
pub mod placeholder;
pub mod process;
pub mod progress;
pub mod runtime;
pub mod size;
pub mod spec;
pub mod state;
pub mod target;
pub mod time;
pub mod version;
pub mod words;
pub mod zone;
