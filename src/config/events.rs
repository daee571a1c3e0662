//! `on_event`.

use std::collections::BTreeMap;

use crate::config::diagnostic::{Diagnostic, did_you_mean};
use crate::config::environment::Scope;
use crate::config::fields::Fields;
use crate::config::tree::Value;
use crate::model::event::EventKind;
use crate::model::ostext::OsText;

/// Reads it.
pub(super) fn on_event(fields: &Fields<'_>, scope: &Scope<'_>) -> BTreeMap<EventKind, Vec<OsText>> {
    let mut commands = BTreeMap::new();
    let Some(entry) = fields.get("on_event") else {
        return commands;
    };
    let Value::Table(entries) = &entry.node.value else {
        fields.reader.wrong("on_event", &entry.node, "a table");
        return commands;
    };
    for entry in entries {
        let path = format!("on_event.{}", entry.key);
        let command = scope.hook(&path, &entry.node);
        if let Ok(kind) = entry.key.parse::<EventKind>() {
            commands.extend(command.map(|command| (kind, command)));
            continue;
        }
        let names = || EventKind::ALL.iter().map(|kind| kind.as_str());
        let hint = did_you_mean(&entry.key, names())
            .unwrap_or_else(|| format!("events: {}", names().collect::<Vec<_>>().join(", ")));
        let message = format!("there is no event `{}`", entry.key);
        fields
            .reader
            .sink
            .push(Diagnostic::error(entry.key_span.clone(), &path, message).hint(hint));
    }
    commands
}
