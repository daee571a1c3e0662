//! clmgr.

pub mod api;
pub mod cli;
pub mod client;
pub mod config;
pub mod daemon;
pub mod keeper;
pub mod logs;
pub mod model;
pub mod node;
pub mod os;
pub mod store;
pub mod supervise;
