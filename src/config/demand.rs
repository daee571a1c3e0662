//! `start` and `idle_timeout`: an app that runs while somebody is connected. `ipc`.

use crate::config::diagnostic::{Diagnostic, Span};
use crate::config::fields::Fields;
use crate::config::tree::Value;
use crate::model::balance::{ExecMode, OnDemand};
use crate::model::spec::AppSpec;

/// Reads them.
pub(super) fn on_demand(fields: &Fields<'_>) -> Option<OnDemand> {
    let on_demand = fields.choice("start", &["always", "on-demand"]) == Some("on-demand");
    let idle_timeout = if says(fields, "idle_timeout", "never") {
        None
    } else {
        fields.span_of_time("idle_timeout")
    };
    on_demand.then_some(OnDemand { idle_timeout })
}

/// What they do not go with.
pub(super) fn check(fields: &Fields<'_>, spec: &AppSpec, place: &Span) {
    let sink = fields.reader.sink;
    let at = |key| {
        fields
            .get(key)
            .map_or_else(|| place.clone(), |entry| entry.node.span.clone())
    };
    if spec.on_demand.is_none() {
        // Nothing to say where `start` is wrong anyway.
        let start = fields.get("start");
        let is_meant = says(fields, "idle_timeout", "never") || start.is_some() && !says(fields, "start", "always");
        if let (Some(entry), false) = (fields.get("idle_timeout"), is_meant) {
            sink.push(
                Diagnostic::error(
                    entry.key_span.clone(),
                    "idle_timeout",
                    "`idle_timeout` is for apps that a connection starts",
                )
                .hint("write `start = \"on-demand\"`, or remove it"),
            );
        }
        return;
    }
    if spec.exec_mode == ExecMode::Cluster {
        sink.push(
            Diagnostic::error(
                at("start"),
                "start",
                "`start = \"on-demand\"` does not go with `exec_mode = \"cluster\"`: its workers say themselves where they listen",
            )
            .hint("write `exec_mode = \"fork\"` and `listen`, and in the app `server.listen({ fd: 3 })`"),
        );
    } else if spec.listen.is_empty() {
        sink.push(
            Diagnostic::error(
                at("start"),
                "start",
                "`start = \"on-demand\"` needs sockets that clmgr owns: nobody could connect",
            )
            .hint("write `listen = \"0.0.0.0:3000\"`"),
        );
    }
}

/// The key has this text.
fn says(fields: &Fields<'_>, key: &'static str, text: &str) -> bool {
    let value = fields.get(key).map(|entry| &entry.node.value);
    matches!(value, Some(Value::Text(found)) if found == text)
}
