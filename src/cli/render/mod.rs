//! From answers to text. Pure: width and colours come in, text goes out.
//!
//! - [`table`]: the status table; drops columns where the terminal is narrow
//! - [`describe`]: the page about one app
//! - [`results`]: what a command did, one line an app
//! - [`event`]: one line of `clmgr events`
//! - [`progress`]: what is going on while a command works
//! - [`human`]: times and sizes for people
//! - [`paint`]: which colour a state or an app has

pub mod describe;
pub mod event;
mod health;
pub mod human;
pub mod paint;
pub mod progress;
pub mod results;
pub mod table;

#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;
