//! `listen`: the sockets that clmgr binds for an app.

use std::collections::BTreeMap;

use crate::config::diagnostic::{Diagnostic, Sink, Span};
use crate::config::environment::Scope;
use crate::config::fields::Fields;
use crate::config::paths::absolute;
use crate::config::tables::LISTEN;
use crate::config::tree::{Node, Value};
use crate::model::balance::ExecMode;
use crate::model::listen::{
    Address, AddressError, FIRST_FD, ListenSpec, MAX_LISTENERS, MAX_PATH, next_number, only_tcp, separate_families,
};
use crate::model::names::AppName;
use crate::model::placeholder;
use crate::model::spec::{AppSpec, Ready};

/// The sockets of one app, each with its place.
#[derive(Default)]
pub(super) struct Listen {
    pub(super) list: Vec<ListenSpec>,
    pub(super) spans: Vec<Span>,
}

/// Reads them.
pub(super) fn listen(fields: &Fields<'_>, scope: &Scope<'_>) -> Listen {
    let mut found = Listen::default();
    let Some(entry) = fields.get("listen") else {
        return found;
    };
    let nodes = match &entry.node.value {
        Value::List(list) => list.iter().collect(),
        Value::Text(_)
        | Value::Table(_)
        | Value::Int(_)
        | Value::Float(_)
        | Value::Bool(_)
        | Value::Date(_)
        | Value::Null => vec![&entry.node],
    };
    let mut named: BTreeMap<String, Span> = BTreeMap::new();
    for node in nodes {
        let Some((spec, own_name)) = one(fields, scope, node) else {
            continue;
        };
        if let Some(at) = found.list.iter().position(|known| known.address == spec.address) {
            let first = found.spans.get(at).cloned().unwrap_or_default();
            fields.reader.sink.push(
                Diagnostic::error(
                    node.span.clone(),
                    "listen",
                    format!("`{}` is there twice", spec.address),
                )
                .see(first, "first here")
                .hint("keep one of them"),
            );
            continue;
        }
        if spec.stdin
            && let Some(at) = found.list.iter().position(|known| known.stdin)
        {
            let first = found.spans.get(at).cloned().unwrap_or_default();
            fields.reader.sink.push(
                Diagnostic::error(
                    node.span.clone(),
                    "listen.stdin",
                    "two sockets cannot both be descriptor 0",
                )
                .see(first, "the other one")
                .hint("keep `stdin = true` in one of them"),
            );
        }
        if own_name && let Some(first) = named.insert(spec.name.clone(), node.span.clone()) {
            fields.reader.sink.push(
                Diagnostic::error(
                    node.span.clone(),
                    "listen.name",
                    format!("two sockets are named `{}`", spec.name),
                )
                .see(first, "first here")
                .hint("give each its own name"),
            );
        }
        found.list.push(spec);
        found.spans.push(node.span.clone());
    }
    if found.list.len() > MAX_LISTENERS {
        let message = format!(
            "{} sockets are too many; {MAX_LISTENERS} are possible",
            found.list.len()
        );
        fields.reader.bad("listen", &entry.node.span, message);
        found = Listen::default();
    }
    separate_families(&mut found.list);
    within(fields.reader.sink, &found);
    found
}

/// Sockets of one app that exclude each other.
fn within(sink: &Sink, found: &Listen) {
    for (at, spec) in found.list.iter().enumerate() {
        let earlier = found.list.iter().take(at).position(|other| other.collides(spec));
        if let (Some(span), Some(first)) = (found.spans.get(at), earlier.and_then(|other| found.spans.get(other))) {
            sink.push(
                Diagnostic::error(
                    span.clone(),
                    "listen",
                    format!("`{}` cannot be bound beside this address of the same app", spec.address),
                )
                .see(first.clone(), "this address")
                .hint("0.0.0.0 and [::] stand for every address; keep one of the two"),
            );
        }
    }
}

/// One entry, and whether it has a name of its own.
fn one(fields: &Fields<'_>, scope: &Scope<'_>, node: &Node) -> Option<(ListenSpec, bool)> {
    match &node.value {
        Value::Text(_) => {
            let text = fields.reader.text("listen", node)?;
            let text = scope.expand("listen", text, &node.span)?;
            let address = address(fields, "listen", &text, &node.span)?;
            Some((ListenSpec::new(address), false))
        }
        Value::Table(_) => table(fields, scope, node),
        Value::Int(port) => {
            fields.reader.sink.push(
                Diagnostic::error(
                    node.span.clone(),
                    "listen",
                    "`listen` must be an address with its port, not a number",
                )
                .hint(format!(
                    "write \"0.0.0.0:{port}\", or \"127.0.0.1:{port}\" for this machine only"
                )),
            );
            None
        }
        Value::Float(_) | Value::Bool(_) | Value::Date(_) | Value::Null | Value::List(_) => {
            fields
                .reader
                .wrong("listen", node, "an address like \"0.0.0.0:3000\", or a table");
            None
        }
    }
}

fn table<'a>(fields: &Fields<'a>, scope: &Scope<'_>, node: &'a Node) -> Option<(ListenSpec, bool)> {
    let inner = fields.of_table("listen", node, LISTEN)?;
    let given: Vec<&'static str> = ["tcp", "udp", "unix"]
        .into_iter()
        .filter(|key| inner.get(key).is_some())
        .collect();
    let [kind] = given.as_slice() else {
        fields.reader.sink.push(
            Diagnostic::error(
                node.span.clone(),
                "listen",
                format!(
                    "an entry of `listen` has exactly one of `tcp`, `udp` and `unix`, not {}",
                    given.len()
                ),
            )
            .hint("write { tcp = \"0.0.0.0:3000\", name = \"http\" }"),
        );
        return None;
    };
    let (text, span) = inner.text(kind)?;
    let path = inner.path(kind);
    let text = scope.expand(&path, text, span)?;
    let text = if *kind == "tcp" { text } else { format!("{kind}:{text}") };
    let mut spec = ListenSpec::new(address(fields, &path, &text, span)?);
    if let Some(backlog) = inner.count("backlog") {
        spec.backlog = backlog;
    }
    if let Some((text, span)) = inner.text("mode") {
        spec.mode = mode(fields, &spec, text, span);
    }
    spec.owner = who(&inner, &spec, "owner");
    spec.group = who(&inner, &spec, "group");
    spec.stdin = inner.boolean("stdin").unwrap_or(false);
    let Some((name, span)) = inner.text("name") else {
        return Some((spec, false));
    };
    if name.is_empty() || name.len() > 255 || name.contains(|c: char| c.is_control() || ":{}".contains(c)) {
        let message = format!("{name:?} cannot be a socket's name: 1 to 255 characters, none of `:`, `{{` and `}}`");
        fields.reader.bad("listen.name", span, message);
        return None;
    }
    name.clone_into(&mut spec.name);
    Some((spec, true))
}

/// A user or group; whether it exists is seen when the socket is bound.
fn who(inner: &Fields<'_>, spec: &ListenSpec, key: &'static str) -> Option<String> {
    let (text, span) = inner.text(key)?;
    let problem = if !matches!(spec.address, Address::Unix(_)) {
        format!("`{key}` is for the file of a Unix socket")
    } else if text.is_empty() || text.contains(['\0', '/', ':']) {
        format!("`{key}` cannot be {text:?}: it is a name or a number")
    } else {
        return Some(text.to_owned());
    };
    inner.reader.bad(&inner.path(key), span, problem);
    None
}

fn mode(fields: &Fields<'_>, spec: &ListenSpec, text: &str, span: &Span) -> Option<u32> {
    if !matches!(spec.address, Address::Unix(_)) {
        fields
            .reader
            .bad("listen.mode", span, "only the file of a Unix socket has a `mode`");
        return None;
    }
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
    if mode.is_none() {
        let message = format!("{text:?} is no file mode");
        fields
            .reader
            .sink
            .push(Diagnostic::error(span.clone(), "listen.mode", message).hint("write it in octal: \"0660\""));
    }
    mode
}

fn address(fields: &Fields<'_>, key: &str, text: &str, span: &Span) -> Option<Address> {
    let cx = fields.reader.cx;
    let error = match text.parse() {
        Ok(Address::Unix(path)) => {
            let path = absolute(&path.to_text(), cx.base_dir, cx);
            let length = path.as_os_str().len();
            if length <= MAX_PATH {
                return Some(Address::Unix(path.into()));
            }
            AddressError::PathLength(length)
        }
        Ok(address) => return Some(address),
        Err(error) => error,
    };
    let hint = match &error {
        AddressError::OnlyPort(port) => {
            format!("write \"0.0.0.0:{port}\", or \"127.0.0.1:{port}\" for this machine only")
        }
        AddressError::NoPort(host) => no_port(host),
        AddressError::NotAnAddress(host) if host == "localhost" => "write \"127.0.0.1:…\" or \"[::1]:…\"".to_owned(),
        AddressError::NotAnAddress(host) if host == "*" => "every address is \"0.0.0.0:…\" or \"[::]:…\"".to_owned(),
        AddressError::NotAnAddress(_) => {
            "write an address of this machine, such as \"0.0.0.0:3000\" or \"unix:/run/api.sock\"; names are not resolved"
                .to_owned()
        }
        AddressError::Brackets(fixed) => format!("write \"{fixed}\""),
        AddressError::PathLength(_) => "choose a shorter path, for example below /run".to_owned(),
        AddressError::Empty | AddressError::BadPort(_) | AddressError::PortRange(_) | AddressError::NoPath => {
            "write it like \"0.0.0.0:3000\", \"[::]:3000\", \"udp:0.0.0.0:53\" or \"unix:/run/api.sock\"".to_owned()
        }
    };
    let message = format!("`{key}` cannot be {text:?}: {error}");
    fields
        .reader
        .sink
        .push(Diagnostic::error(span.clone(), key, message).hint(hint));
    None
}

/// `::1:80` is an address as a whole, though its writer may have meant a port.
fn no_port(host: &str) -> String {
    let is_v6 = |text: &str| text.parse::<std::net::Ipv6Addr>().is_ok();
    match host.rsplit_once(':') {
        Some((before, port)) if is_v6(host) && is_v6(before) => {
            format!("write \"[{before}]:{port}\" if {port} is the port, else \"[{host}]:3000\"")
        }
        Some(_) if is_v6(host) => format!("write \"[{host}]:3000\""),
        Some(_) | None => format!("write \"{host}:3000\""),
    }
}

/// What does not go with sockets that listen before the program begins.
pub(super) fn check(fields: &Fields<'_>, spec: &AppSpec, place: &Span) {
    if spec.listen.is_empty() {
        return;
    }
    placeholders(fields, spec, place);
    let Some(entry) = fields.get("ready") else { return };
    let span = &entry.node.span;
    let hint = "use `ready = \"notify\"` or `ready = { http = \"http://127.0.0.1:{port}/\" }`";
    let problem = match &spec.ready {
        Ready::Listen if spec.exec_mode == ExecMode::Cluster => return,
        Ready::Listen => {
            "`ready = \"listen\"` says nothing beside `listen`: the sockets listen before the program begins"
        }
        Ready::Tcp(address) if is_own_port(spec, address) => {
            "`ready.tcp` says nothing about a socket of `listen`: it accepts connections before the program begins"
        }
        Ready::Fd(number) => {
            let next = next_number(&spec.listen);
            if (FIRST_FD..next).contains(number) {
                let message = format!("descriptor {number} is a socket of `listen`");
                fields.reader.sink.push(
                    Diagnostic::error(span.clone(), "ready", message).hint(format!("write `ready = \"fd:{next}\"`")),
                );
            }
            return;
        }
        Ready::Tcp(_) | Ready::Spawn | Ready::Ipc | Ready::Notify | Ready::Http(_) | Ready::Exec(_) | Ready::Log(_) => {
            return;
        }
    };
    fields
        .reader
        .sink
        .push(Diagnostic::error(span.clone(), "ready", problem).hint(hint));
}

/// The port of this `host:port` is one of `listen`.
pub(super) fn is_own_port(spec: &AppSpec, address: &str) -> bool {
    let port = address.rsplit_once(':').map_or("", |(_, port)| port);
    port == "{port}" && !spec.env.contains_key("PORT")
        || spec.listen.iter().any(|one| match one.address {
            Address::Tcp(address) => address.port().to_string() == port,
            Address::Udp(_) | Address::Unix(_) | Address::Abstract(_) => false,
        })
}

/// `{fd:NAME}` and the like must mean something.
fn placeholders(fields: &Fields<'_>, spec: &AppSpec, place: &Span) {
    let wrong = |text: &str| placeholder::fill(text, &spec.listen, &|_| Some(0)).err();
    let command = ["cmd", "args", "interpreter_args", "script"]
        .into_iter()
        .find_map(|key| fields.get(key).map(|entry| (key, &entry.node.span)));
    for word in &spec.argv {
        if let (Some(message), Some((key, span))) = (wrong(&word.to_text()), command) {
            fields.reader.bad(key, span, message);
        }
    }
    for (name, value) in &spec.env {
        let Some(message) = wrong(&value.to_text()) else {
            continue;
        };
        let span = fields.envs.iter().rev().find_map(|layer| match &layer.node.value {
            Value::Table(entries) => entries
                .iter()
                .find(|entry| entry.key == *name)
                .map(|entry| &entry.node.span),
            Value::Text(_)
            | Value::Int(_)
            | Value::Float(_)
            | Value::Bool(_)
            | Value::Date(_)
            | Value::Null
            | Value::List(_) => None,
        });
        fields
            .reader
            .bad(&format!("env.{name}"), span.unwrap_or(place), message);
    }
}

/// The app has a `PORT` because of its sockets.
pub(super) fn gives_port(found: &Listen) -> bool {
    only_tcp(&found.list).is_some()
}

/// No two apps may have the same address.
pub(super) fn unique<'b>(sink: &Sink, apps: impl Iterator<Item = (&'b AppName, &'b [ListenSpec], &'b [Span])>) {
    let mut seen: Vec<(&AppName, &ListenSpec, &Span)> = Vec::new();
    for (name, list, spans) in apps {
        for (spec, span) in list.iter().zip(spans) {
            let first = seen
                .iter()
                .find(|(other, known, _)| *other != name && known.collides(spec));
            if let Some((other, known, first)) = first {
                sink.push(
                    Diagnostic::error(
                        span.clone(),
                        "listen",
                        format!("the apps `{other}` and `{name}` both listen on `{}`", spec.address),
                    )
                    .see((*first).clone(), format!("`{}` of `{other}`", known.address))
                    .hint(
                        "give each its own port; for several processes on one port, write `instances = 2` in one app",
                    ),
                );
            }
            seen.push((name, spec, span));
        }
    }
}
