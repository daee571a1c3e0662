//! `ready`, `wait_ready`, `listen_timeout`, `on_listen_timeout`.

use crate::config::diagnostic::{Diagnostic, Span, did_you_mean};
use crate::config::environment::Scope;
use crate::config::fields::Fields;
use crate::config::require::host_port;
use crate::config::tables::{READY, READY_TABLE};
use crate::config::tree::{Entry, Value};
use crate::model::duration::Millis;
use crate::model::spec::Ready;

/// What an app says about readiness.
pub(super) struct Readiness {
    pub(super) ready: Ready,
    pub(super) timeout: Millis,
    pub(super) ready_on_timeout: bool,
}

/// Reads it.
/// `has_port`: `PORT` is set because the app has one socket. `default`: where nothing is said.
pub(super) fn readiness(fields: &Fields<'_>, scope: &Scope<'_>, has_port: bool, default: Ready) -> Readiness {
    let wait = fields.boolean("wait_ready");
    let given = fields
        .get("ready")
        .and_then(|entry| ready(fields, scope, has_port, entry));
    if let (Some(wait), Some(given)) = (wait, &given)
        && wait != (*given == Ready::Ipc)
    {
        let message = format!("`wait_ready = {wait}` and this `ready` contradict each other");
        fields.contradiction(
            "wait_ready",
            "ready",
            &message,
            "`wait_ready = true` is `ready = \"ipc\"`; keep only `ready`",
        );
    }
    let from_wait = if wait == Some(true) { Ready::Ipc } else { default };
    Readiness {
        ready: given.unwrap_or(from_wait),
        timeout: fields.span_of_time("listen_timeout").unwrap_or(Millis::from_secs(30)),
        ready_on_timeout: fields.choice("on_listen_timeout", &["fail", "ready"]) == Some("ready"),
    }
}

fn ready<'a>(fields: &Fields<'a>, scope: &Scope<'_>, has_port: bool, entry: &'a Entry) -> Option<Ready> {
    let node = &entry.node;
    match &node.value {
        Value::Text(text) => word(fields, text, &node.span),
        Value::Table(entries) if entries.len() != 1 => {
            let message = format!("`ready` must be a table with exactly one key, not {}", entries.len());
            fields.reader.sink.push(
                Diagnostic::error(node.span.clone(), "ready", message).hint("one of `http`, `tcp`, `exec`, `log`"),
            );
            fields.of_table("ready", node, READY_TABLE);
            None
        }
        Value::Table(_) => probe(fields, scope, has_port, entry),
        Value::Int(_) | Value::Float(_) | Value::Bool(_) | Value::Date(_) | Value::Null | Value::List(_) => {
            fields.reader.wrong("ready", node, "a string or a table");
            None
        }
    }
}

fn word(fields: &Fields<'_>, text: &str, span: &Span) -> Option<Ready> {
    match text {
        "spawn" => return Some(Ready::Spawn),
        "listen" => return Some(Ready::Listen),
        "ipc" => return Some(Ready::Ipc),
        "notify" => return Some(Ready::Notify),
        _ => {}
    }
    if let Some(number) = text.strip_prefix("fd:") {
        if let Some(fd) = number.parse::<i32>().ok().filter(|fd| (3..1024).contains(fd)) {
            return Some(Ready::Fd(fd));
        }
        fields.reader.bad(
            "ready",
            span,
            format!("`{text}`: the descriptor must be a number from 3 to 1023"),
        );
        return None;
    }
    let hint = did_you_mean(text, READY.iter().copied()).unwrap_or_else(|| {
        "write \"spawn\", \"listen\", \"ipc\", \"notify\", \"fd:3\", or a table like { http = \"http://127.0.0.1:3000/\" }".into()
    });
    let message = format!("`ready` cannot be {text:?}");
    fields
        .reader
        .sink
        .push(Diagnostic::error(span.clone(), "ready", message).hint(hint));
    None
}

fn probe<'a>(fields: &Fields<'a>, scope: &Scope<'_>, has_port: bool, entry: &'a Entry) -> Option<Ready> {
    let Value::Table(entries) = &entry.node.value else {
        return None;
    };
    let only = entries.first()?;
    let path = format!("ready.{}", only.key);
    let span = &only.node.span;
    let reader = fields.reader;
    let text = || {
        let text = reader.text(&path, &only.node)?;
        scope.expand(&path, text, span)
    };
    match only.key.as_str() {
        "http" => {
            let url = text()?;
            (http(fields, &path, &url, span) && port_is_known(fields, scope, has_port, &path, &url, span))
                .then_some(Ready::Http(url))
        }
        "tcp" => {
            let address = text()?;
            (host_port(&reader, &path, &address, span) && port_is_known(fields, scope, has_port, &path, &address, span))
                .then_some(Ready::Tcp(address))
        }
        "exec" => scope.hook(&path, &only.node).map(Ready::Exec),
        "log" => {
            let pattern = reader.text(&path, &only.node)?;
            if let Err(error) = regex::Regex::new(pattern) {
                let cause = error.to_string();
                let cause = cause
                    .lines()
                    .last()
                    .unwrap_or_default()
                    .trim_start_matches("error: ")
                    .to_owned();
                reader.bad(&path, span, format!("`ready.log` is not a regular expression: {cause}"));
                return None;
            }
            Some(Ready::Log(pattern.to_owned()))
        }
        _ => {
            fields.of_table("ready", &entry.node, READY_TABLE);
            None
        }
    }
}

/// Checks a URL that is to be asked by GET.
pub(super) fn http(fields: &Fields<'_>, key: &str, url: &str, span: &Span) -> bool {
    let rest = url.strip_prefix("http://");
    let authority = rest.map(|rest| rest.split(['/', '?', '#']).next().unwrap_or_default());
    if authority.is_some_and(|host| !host.is_empty() && !host.starts_with(':')) && !url.contains([' ', '\n', '\r']) {
        return true;
    }
    let hint = if url.starts_with("https://") {
        "only http:// is asked; a certificate says nothing about readiness or health".to_owned()
    } else if url.starts_with('/') {
        format!("write \"http://127.0.0.1:{{port}}{url}\"")
    } else {
        "write it like \"http://127.0.0.1:{port}/health\"".to_owned()
    };
    let message = format!("{url:?} is not an http URL");
    fields
        .reader
        .sink
        .push(Diagnostic::error(span.clone(), key, message).hint(hint));
    false
}

/// Checks that `{port}` in a text means something.
pub(super) fn port_is_known(
    fields: &Fields<'_>,
    scope: &Scope<'_>,
    has_port: bool,
    key: &str,
    text: &str,
    span: &Span,
) -> bool {
    let known = !text.contains("{port}") || has_port || scope.has("PORT");
    if !known {
        fields.reader.sink.push(
            Diagnostic::error(
                span.clone(),
                key,
                "`{port}` is the variable `PORT`, which this app does not have",
            )
            .hint("set it: `env = { PORT = 3000 }`"),
        );
    }
    known
}
