//! Text in, [`AppSpec`](crate::model::spec::AppSpec)s out: or every problem at once, with its place.
//!
//! Pure. Whatever the text refers to (files, the caller's environment, the machine) is asked through
//! [`Context`], so the whole module runs in a test without a disk.
//!
//! The way of a file: `tree` or `json` make a tree whose every node knows its place; `document`
//! finds the apps and the defaults; `fields` checks keys against `schema`, the one table that also
//! makes the documentation and the JSON schema; then one small file per group of keys reads its own
//! (`command`, `environment`, `restart`, …) and `app` puts them together. Nobody stops at the
//! first problem: each reports to the sink and goes on.

mod adhoc;
mod app;
mod balance;
mod cluster;
mod command;
mod context;
mod demand;
mod diagnostic;
mod docs;
mod document;
mod environment;
mod events;
mod expand;
mod fd_store;
mod fields;
mod health;
mod init;
mod instances;
mod interpreter;
mod json;
mod json_schema;
mod listen;
mod log_to;
mod log_zone;
mod logs;
mod paths;
mod ready;
mod refused;
mod require;
mod restart;
mod rollout;
mod schema;
mod stop;
mod tables;
#[cfg(test)]
mod tests;
mod tree;
mod values;

pub use adhoc::{AdHoc, adhoc};
pub use context::{Context, FileKind, ListDir, Parsed, Syntax};
pub(crate) use diagnostic::closest;
pub use diagnostic::{Diagnostic, Diagnostics, Severity};
pub use docs::key_table_markdown;
pub use document::parse;
pub use init::{Found, init};
pub use json_schema::json_schema;
