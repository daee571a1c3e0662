//! `health`, `watchdog`, `hang_timeout`, `max_age`: how it is seen that a ready instance still works, and how long it
//! may live.

use crate::config::diagnostic::{Diagnostic, Span};
use crate::config::environment::Scope;
use crate::config::fields::Fields;
use crate::config::listen::is_own_port;
use crate::config::paths::absolute;
use crate::config::ready::{http, port_is_known};
use crate::config::require::host_port;
use crate::config::tables::{HEALTH, MAX_AGE};
use crate::config::tree::Value;
use crate::model::balance::ExecMode;
use crate::model::duration::Millis;
use crate::model::health::{Health, MaxAge, Probe};
use crate::model::listen::Address;
use crate::model::ostext::OsText;
use crate::model::spec::AppSpec;

/// The kinds of questions; exactly one is asked.
const KINDS: [&str; 4] = ["http", "tcp", "unix", "exec"];

/// What an app says about liveness.
pub(super) struct Liveness {
    pub(super) health: Option<Health>,
    pub(super) watchdog: Option<Millis>,
    pub(super) hang_timeout: Option<Millis>,
    pub(super) max_age: Option<MaxAge>,
}

/// Reads it.
/// `has_port`: `PORT` is set because the app has one socket.
pub(super) fn liveness(fields: &Fields<'_>, scope: &Scope<'_>, has_port: bool) -> Liveness {
    Liveness {
        health: health(fields, scope, has_port),
        watchdog: at_least(
            fields,
            "watchdog",
            Millis(100),
            "nobody can promise to be heard more often",
        ),
        hang_timeout: at_least(
            fields,
            "hang_timeout",
            Millis::from_secs(1),
            "a healthy server may well be busy for less",
        ),
        max_age: max_age(fields),
    }
}

fn at_least(fields: &Fields<'_>, key: &'static str, least: Millis, because: &str) -> Option<Millis> {
    let entry = fields.get(key)?;
    let path = fields.path(key);
    let given = fields.reader.duration(&path, &entry.node)?;
    if given >= least {
        return Some(given);
    }
    let message = format!("`{path}` must be at least {least}: {because}");
    let mut problem = Diagnostic::error(entry.node.span.clone(), &path, message);
    if let Value::Int(number) = entry.node.value {
        problem = problem.hint(format!(
            "a bare number counts milliseconds; write \"{number}s\" for seconds"
        ));
    }
    fields.reader.sink.push(problem);
    None
}

fn health(fields: &Fields<'_>, scope: &Scope<'_>, has_port: bool) -> Option<Health> {
    let table = fields.table("health", HEALTH)?;
    let interval = at_least(
        &table,
        "interval",
        Millis(100),
        "asking costs both sides more than it tells",
    );
    let timeout = table.span_of_time("timeout");
    let retries = table.count("retries");
    let start_period = table.duration("start_period");
    let given: Vec<&'static str> = KINDS.into_iter().filter(|kind| table.get(kind).is_some()).collect();
    let [kind] = given.as_slice() else {
        let place = fields.get("health")?.node.span.clone();
        let message = match given.as_slice() {
            [] => "`health` does not say what to ask".to_owned(),
            _ => format!("`health` asks one thing, not {}", given.join(" and ")),
        };
        fields.reader.sink.push(
            Diagnostic::error(place, "health", message).hint(
                "give it exactly one of `http`, `tcp`, `unix`, `exec`: { http = \"http://127.0.0.1:3000/health\" }",
            ),
        );
        return None;
    };
    Some(Health {
        probe: probe(fields, &table, scope, has_port, kind)?,
        interval: interval.unwrap_or(Millis::from_secs(10)),
        timeout: timeout.unwrap_or(Millis::from_secs(2)),
        retries: retries.unwrap_or(3),
        start_period: start_period.unwrap_or(Millis::ZERO),
    })
}

fn probe(
    fields: &Fields<'_>,
    table: &Fields<'_>,
    scope: &Scope<'_>,
    has_port: bool,
    kind: &'static str,
) -> Option<Probe> {
    let path = table.path(kind);
    if kind == "exec" {
        return scope.hook(&path, &table.get(kind)?.node).map(Probe::Exec);
    }
    let (text, span) = scope.text(table, kind)?;
    // As it will be for the first instance: a number of a slot is fine wherever a number is.
    let shown = text.replace("{slot}", "1");
    match kind {
        "http" => (http(fields, &path, &shown, span) && port_is_known(fields, scope, has_port, &path, &text, span))
            .then_some(Probe::Http(text)),
        "tcp" => (host_port(&fields.reader, &path, &shown, span)
            && port_is_known(fields, scope, has_port, &path, &text, span))
        .then_some(Probe::Tcp(text)),
        _ => unix(fields, &path, &text, span),
    }
}

fn unix(fields: &Fields<'_>, key: &str, text: &str, span: &Span) -> Option<Probe> {
    let path = text.strip_prefix("unix:").unwrap_or(text);
    if path.is_empty() || path.starts_with('@') {
        let message = format!("{text:?} is not the path of a Unix socket");
        fields.reader.bad(key, span, message);
        return None;
    }
    let cx = fields.reader.cx;
    Some(Probe::Unix(absolute(path, cx.base_dir, cx).into()))
}

fn max_age(fields: &Fields<'_>) -> Option<MaxAge> {
    let entry = fields.get("max_age")?;
    let default = |after| MaxAge { after, jitter: 0.1 };
    if !matches!(entry.node.value, Value::Table(_)) {
        return fields.span_of_time("max_age").map(default);
    }
    let table = fields.table("max_age", MAX_AGE)?;
    let jitter = table
        .get("jitter")
        .and_then(|entry| fields.reader.number("max_age.jitter", &entry.node, 0.0, 1.0));
    if table.get("after").is_none() {
        fields.reader.sink.push(
            Diagnostic::error(
                entry.node.span.clone(),
                "max_age",
                "`max_age` does not say how old is too old",
            )
            .hint("add `after`: { after = \"1d\", jitter = 0.1 }"),
        );
    }
    let age = default(table.span_of_time("after")?);
    Some(MaxAge {
        jitter: jitter.unwrap_or(age.jitter),
        ..age
    })
}

/// What only the finished app shows.
pub(super) fn check(fields: &Fields<'_>, spec: &AppSpec) {
    if !is_hollow(fields, spec) {
        check_target(fields, spec);
    }
    let queue = |address: &Address| match address {
        Address::Tcp(_) | Address::Unix(_) | Address::Abstract(_) => true,
        Address::Udp(_) => false,
    };
    let has_queue = spec.exec_mode == ExecMode::Cluster || spec.listen.iter().any(|entry| queue(&entry.address));
    if let (Some(entry), Some(_), false) = (fields.get("hang_timeout"), spec.hang_timeout, has_queue) {
        fields.reader.sink.push(
            Diagnostic::error(
                entry.key_span.clone(),
                "hang_timeout",
                "`hang_timeout` looks at the connections that wait on clmgr's own TCP and Unix sockets, and this app has none",
            )
            .hint("give it `listen = [\"0.0.0.0:3000\"]`, or watch it by `health` or `watchdog`"),
        );
    }
    if let (Some(age), Some(entry)) = (&spec.max_age, fields.get("max_age"))
        && age.after <= spec.restart.min_uptime
    {
        let message = format!(
            "`max_age` ({}) must be longer than `min_uptime` ({})",
            age.after, spec.restart.min_uptime
        );
        fields.reader.bad("max_age", &entry.node.span, message);
    }
}

/// A connection to a socket that the manager holds proves nothing, and is refused; true then.
fn is_hollow(fields: &Fields<'_>, spec: &AppSpec) -> bool {
    let (Some(health), Some(entry)) = (&spec.health, fields.get("health")) else {
        return false;
    };
    let kind = match &health.probe {
        Probe::Tcp(address) if !spec.listen.is_empty() && is_own_port(spec, address) => "tcp",
        Probe::Unix(path) if is_own_path(spec, path) => "unix",
        Probe::Tcp(_) | Probe::Unix(_) | Probe::Http(_) | Probe::Exec(_) => return false,
    };
    let message =
        format!("`health.{kind}` says nothing about a socket of `listen`: it takes connections whatever the app does");
    fields.reader.sink.push(
        Diagnostic::error(entry.node.span.clone(), "health", message)
            .hint("use `hang_timeout = \"10s\"` or `health = { http = \"http://127.0.0.1:{port}/\" }`"),
    );
    true
}

fn is_own_path(spec: &AppSpec, path: &OsText) -> bool {
    spec.listen.iter().any(|one| match &one.address {
        Address::Unix(own) => own == path,
        Address::Tcp(_) | Address::Udp(_) | Address::Abstract(_) => false,
    })
}

/// A question to a port that several instances share is answered by any of them.
fn check_target(fields: &Fields<'_>, spec: &AppSpec) {
    let (Some(health), Some(entry)) = (&spec.health, fields.get("health")) else {
        return;
    };
    let own_port = spec.increment_var.as_deref() == Some("PORT");
    let is_own = |text: &str| text.contains("{slot}") || (own_port && text.contains("{port}"));
    let (kind, own) = match &health.probe {
        Probe::Http(url) => ("http", is_own(url)),
        Probe::Tcp(address) => ("tcp", is_own(address)),
        Probe::Unix(path) => ("unix", is_own(&path.to_text())),
        Probe::Exec(_) => return,
    };
    if own || spec.instances < 2 {
        return;
    }
    fields.reader.sink.push(
        Diagnostic::warning(
            entry.key_span.clone(),
            "health",
            format!(
                "`health.{kind}` is one address for {} instances: any of them may answer for the one that is asked",
                spec.instances
            ),
        )
        .hint("give each its own (`increment_var = \"PORT\"` and `{port}`, or `{slot}`), or use `exec` (it gets CLMGR_PID and CLMGR_SLOT), `watchdog` or `hang_timeout`"),
    );
}
