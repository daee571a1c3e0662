//! The control API's wire types, shared by both sides. HTTP/1.1 + JSON over the Unix control socket.
//!
//! Every mutation answers when its effect has happened or failed. Fields may be added, none renamed.

pub mod error;
pub mod health;
pub mod logs;
pub mod openapi;
pub mod operation;
pub mod routes;
pub mod status;
pub mod trigger;
pub mod upgrade;
