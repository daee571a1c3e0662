//! The restart law's keys.

use crate::config::diagnostic::Diagnostic;
use crate::config::fields::Fields;
use crate::config::tables::BACKOFF;
use crate::config::tree::{Node, Value};
use crate::model::duration::Millis;
use crate::model::spec::{Backoff, RestartMode, RestartSpec};

/// Reads them.
pub(super) fn restart(fields: &Fields<'_>) -> RestartSpec {
    let default = RestartSpec::default();
    let cooldown = cooldown(fields);
    RestartSpec {
        mode: mode(fields),
        stop_exit_codes: fields
            .get("stop_exit_codes")
            .map_or_else(Vec::new, |entry| exit_codes(fields, &entry.node)),
        min_uptime: fields.duration("min_uptime").unwrap_or(default.min_uptime),
        delay: fields.duration("restart_delay").unwrap_or(default.delay),
        backoff: backoff(fields),
        max_restarts: max_restarts(fields).unwrap_or(default.max_restarts),
        window: fields.span_of_time("restart_window").unwrap_or(default.window),
        cooldown_max: default.cooldown_max.max(cooldown.unwrap_or_default()),
        cooldown,
    }
}

fn mode(fields: &Fields<'_>) -> RestartMode {
    let mode = match fields.choice("restart", &["always", "on-failure", "never"]) {
        Some("on-failure") => Some(RestartMode::OnFailure),
        Some("never") => Some(RestartMode::Never),
        Some(_) => Some(RestartMode::Always),
        None => None,
    };
    match (mode, fields.boolean("autorestart")) {
        (None, Some(false)) => RestartMode::Never,
        (None, _) => RestartMode::Always,
        (Some(mode), auto) => {
            if auto.is_some_and(|auto| auto == (mode == RestartMode::Never)) {
                fields.contradiction(
                    "autorestart",
                    "restart",
                    "`autorestart` and `restart` contradict each other",
                    "keep only `restart`",
                );
            }
            mode
        }
    }
}

fn exit_codes(fields: &Fields<'_>, node: &Node) -> Vec<i32> {
    let key = "stop_exit_codes";
    match &node.value {
        Value::List(list) => list.iter().filter_map(|item| exit_code(fields, item)).collect(),
        Value::Int(_) => exit_code(fields, node).into_iter().collect(),
        Value::Text(_) | Value::Float(_) | Value::Bool(_) | Value::Date(_) | Value::Null | Value::Table(_) => {
            fields.reader.wrong(key, node, "a number or an array of numbers");
            Vec::new()
        }
    }
}

fn exit_code(fields: &Fields<'_>, node: &Node) -> Option<i32> {
    let key = "stop_exit_codes";
    let Value::Int(number) = node.value else {
        fields.reader.wrong(key, node, "numbers");
        return None;
    };
    let code = i32::try_from(number).ok().filter(|code| (0..=255).contains(code));
    if code.is_none() {
        fields.reader.bad(
            key,
            &node.span,
            format!("an exit code is between 0 and 255, not {number}"),
        );
    }
    code
}

fn backoff(fields: &Fields<'_>) -> Backoff {
    let default = Backoff::default();
    let Some(table) = fields.table("backoff", BACKOFF) else {
        return default;
    };
    let number = |key: &'static str, low, high| {
        let entry = table.get(key)?;
        fields.reader.number(&table.path(key), &entry.node, low, high)
    };
    let first = table.duration("first").unwrap_or(default.first);
    let max = table.duration("max");
    if let Some(max) = max.filter(|max| *max < first) {
        let place = table.get("max").map_or(0..0, |entry| entry.node.span.clone());
        fields.reader.bad(
            "backoff.max",
            &place,
            format!("`backoff.max` ({max}) is shorter than `backoff.first` ({first})"),
        );
    }
    Backoff {
        first,
        factor: number("factor", 1.0, 1000.0).unwrap_or(default.factor),
        max: max.unwrap_or(default.max).max(first),
        jitter: number("jitter", 0.0, 1.0).unwrap_or(default.jitter),
    }
}

fn max_restarts(fields: &Fields<'_>) -> Option<u32> {
    let entry = fields.get("max_restarts")?;
    if matches!(entry.node.value, Value::Int(0)) {
        fields.reader.sink.push(
            Diagnostic::error(
                entry.node.span.clone(),
                "max_restarts",
                "`max_restarts` must be at least 1",
            )
            .hint("for no restarts at all, write `restart = \"never\"`"),
        );
        return None;
    }
    fields.count("max_restarts")
}

/// `None`: never.
fn cooldown(fields: &Fields<'_>) -> Option<Millis> {
    let default = RestartSpec::default().cooldown;
    match fields.get("breaker_cooldown").map(|entry| &entry.node.value) {
        None => default,
        Some(Value::Text(text)) if text == "never" => None,
        Some(_) => fields.span_of_time("breaker_cooldown").or(default),
    }
}
