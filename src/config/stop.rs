//! How an app is stopped, and its memory limit.

use crate::config::diagnostic::Diagnostic;
use crate::config::environment::Scope;
use crate::config::fields::Fields;
use crate::model::size::Bytes;
use crate::model::spec::StopSpec;

/// Reads the stop keys.
pub(super) fn stop(fields: &Fields<'_>, scope: &Scope<'_>) -> StopSpec {
    let default = StopSpec::default();
    let message = fields.boolean("shutdown_with_message").unwrap_or(false);
    let signal = fields
        .get("stop_signal")
        .and_then(|entry| fields.reader.signal("stop_signal", &entry.node));
    if let (true, Some(_), Some(entry)) = (message, signal, fields.get("stop_signal")) {
        fields.reader.sink.push(Diagnostic::warning(
            entry.key_span.clone(),
            "stop_signal",
            "`stop_signal` is not sent to an app with `shutdown_with_message`",
        ));
    }
    StopSpec {
        signal: signal.unwrap_or(default.signal),
        kill_timeout: fields.duration("kill_timeout").unwrap_or(default.kill_timeout),
        treekill: fields.boolean("treekill").unwrap_or(default.treekill),
        message,
        pre_stop: fields
            .get("pre_stop")
            .and_then(|entry| scope.hook("pre_stop", &entry.node))
            .unwrap_or_default(),
    }
}

/// Reads `max_memory_restart`.
pub(super) fn max_memory(fields: &Fields<'_>) -> Option<Bytes> {
    let entry = fields.get("max_memory_restart")?;
    let size = fields.reader.size("max_memory_restart", &entry.node)?;
    if size.0 < 1 << 20 {
        fields.reader.sink.push(
            Diagnostic::warning(
                entry.node.span.clone(),
                "max_memory_restart",
                format!("{size} is less than any program needs"),
            )
            .hint(format!("a bare number counts bytes; did you mean \"{}M\"?", size.0)),
        );
    }
    Some(size)
}
