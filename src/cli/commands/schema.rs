//! Prints the JSON schema of ecosystem.toml.

use crate::cli::context::Context;
use crate::cli::failure::Failure;

pub(crate) fn run(context: &mut Context) -> Result<(), Failure> {
    context.ui.line(text())
}

/// The schema, laid out for people and for the repository.
#[must_use]
pub fn text() -> String {
    let schema = crate::config::json_schema();
    serde_json::to_string_pretty(&schema).unwrap_or_else(|_| schema.to_string())
}
