//! `instances`, `instance_var`, `increment_var`.

use crate::config::diagnostic::Diagnostic;
use crate::config::fields::Fields;
use crate::config::tree::{Node, Value};
use crate::model::env::is_name;
use crate::model::spec::MAX_INSTANCES;

/// How many.
pub(super) fn instances(fields: &Fields<'_>) -> Option<u32> {
    let Some(entry) = fields.get("instances") else {
        return Some(1);
    };
    let cpus = i64::from(fields.reader.cx.cpus.max(1));
    let number = count(fields, &entry.node, cpus)?;
    let valid = u32::try_from(number).ok().filter(|n| *n <= MAX_INSTANCES);
    if valid.is_none() {
        fields.reader.sink.push(
            Diagnostic::error(
                entry.node.span.clone(),
                "instances",
                format!("{number} instances are more than {MAX_INSTANCES}"),
            )
            .hint("`\"max\"` is one for every CPU"),
        );
    }
    valid
}

/// At least 1, perhaps too many.
fn count(fields: &Fields<'_>, node: &Node, cpus: i64) -> Option<i64> {
    let bad = |shown: &str| {
        fields.reader.sink.push(
            Diagnostic::error(node.span.clone(), "instances", format!("`instances` cannot be {shown}"))
                .hint("write a number, \"max\", -1 (one less than the CPUs) or a share of them like \"50%\""),
        );
    };
    match &node.value {
        Value::Int(number) => Some(from_number(*number, cpus)),
        Value::Text(text) => {
            let trimmed = text.trim();
            if trimmed.eq_ignore_ascii_case("max") {
                return Some(cpus);
            }
            let result = match trimmed.strip_suffix('%') {
                Some(share) => share
                    .trim()
                    .parse::<u32>()
                    .ok()
                    .filter(|share| (1..=100_000).contains(share))
                    .map(|share| (cpus * i64::from(share) / 100).max(1)),
                None => trimmed.parse::<i64>().ok().map(|number| from_number(number, cpus)),
            };
            if result.is_none() {
                bad(&format!("{text:?}"));
            }
            result
        }
        Value::Float(_) | Value::Bool(_) | Value::Date(_) | Value::Null | Value::List(_) | Value::Table(_) => {
            bad(node.describe());
            None
        }
    }
}

/// As in PM2: 0 is every CPU, -1 leaves one of them, and so on.
fn from_number(number: i64, cpus: i64) -> i64 {
    match number {
        1.. => number,
        0 => cpus,
        _ => cpus.saturating_add(number).max(1),
    }
}

/// The name of a variable at `key`.
pub(super) fn variable(fields: &Fields<'_>, key: &'static str) -> Option<String> {
    let (name, span) = fields.text(key)?;
    if !is_name(name) {
        fields
            .reader
            .bad(key, span, format!("{name:?} cannot be a variable's name"));
        return None;
    }
    Some(name.to_owned())
}
