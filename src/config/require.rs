//! `require`: what must be there before anything is spawned.

use crate::config::diagnostic::{Diagnostic, Span};
use crate::config::environment::Scope;
use crate::config::fields::Fields;
use crate::config::paths::absolute;
use crate::config::tables::REQUIRE;
use crate::config::values::Reader;
use crate::model::env::is_name;
use crate::model::spec::Require;

/// Reads it.
pub(super) fn require(fields: &Fields<'_>, scope: &Scope<'_>) -> Require {
    let reader = fields.reader;
    let Some(table) = fields.table("require", REQUIRE) else {
        return Require::default();
    };
    let mut require = Require::default();
    for (name, span) in scope.texts(&table, "env").unwrap_or_default() {
        if is_name(&name) {
            require.env.push(name);
        } else {
            reader.bad("require.env", span, format!("{name:?} cannot be a variable's name"));
        }
    }
    for (path, span) in scope.texts(&table, "files").unwrap_or_default() {
        if path.is_empty() {
            reader.bad("require.files", span, "a path is empty");
        }
        require
            .files
            .push(absolute(&path, reader.cx.base_dir, reader.cx).into());
    }
    for (address, span) in scope.texts(&table, "tcp").unwrap_or_default() {
        if host_port(&reader, "require.tcp", &address, span) {
            require.tcp.push(address);
        }
    }
    require
}

/// Checks `host:port`, where the port may be `{port}`.
pub(super) fn host_port(reader: &Reader<'_>, key: &str, address: &str, span: &Span) -> bool {
    let parts = address.rsplit_once(':');
    let bare_v6 = parts.is_some_and(|(host, _)| host.contains(':') && !(host.starts_with('[') && host.ends_with(']')));
    let good = parts.is_some_and(|(host, port)| {
        !host.is_empty()
            && !host.contains(['/', ' '])
            && (port.parse::<u16>().is_ok_and(|port| port > 0) || (!key.starts_with("require") && port == "{port}"))
    });
    if good && !bare_v6 {
        return true;
    }
    let hint = match address.trim_start_matches(':').parse::<u16>() {
        Ok(port) if port > 0 => format!("write \"127.0.0.1:{port}\""),
        _ if bare_v6 => "put the IPv6 address in brackets: \"[::1]:5432\"".to_owned(),
        _ => "write it like \"127.0.0.1:5432\"".to_owned(),
    };
    reader
        .sink
        .push(Diagnostic::error(span.clone(), key, format!("{address:?} is not `host:port`")).hint(hint));
    false
}
