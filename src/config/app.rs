//! One app, from its fields.

use crate::config::balance;
use crate::config::cluster::mode;
use crate::config::command;
use crate::config::demand::{self, on_demand};
use crate::config::diagnostic::{Diagnostic, Span};
use crate::config::environment::{Inherited, Scope};
use crate::config::events::on_event;
use crate::config::fd_store::fd_store;
use crate::config::fields::Fields;
use crate::config::health::{self, liveness};
use crate::config::instances::{instances, variable};
use crate::config::listen::{Listen, check, gives_port, listen};
use crate::config::logs::logs;
use crate::config::ready::readiness;
use crate::config::require::require;
use crate::config::restart::restart;
use crate::config::rollout::rollout;
use crate::config::stop::{max_memory, stop};
use crate::config::tree::Value;
use crate::model::names::{AppName, Namespace};
use crate::model::spec::AppSpec;

/// A finished app, and the place of its name.
pub(super) struct Built {
    pub(super) spec: AppSpec,
    pub(super) name_span: Span,
    /// Of `listen`, in its order.
    pub(super) listen_spans: Vec<Span>,
}

/// Reads everything, whatever is wrong in between. `place` is where the app begins.
pub(super) fn build(fields: &Fields<'_>, inherited: &Inherited, place: &Span) -> Option<Built> {
    let scope = Scope::read(fields, inherited);
    let cwd = command::cwd(fields, &scope);
    let command = command::read(fields, &scope, &cwd, place);
    let name = name(fields, command.as_ref());
    let namespace = namespace(fields);
    let instances = instances(fields);
    let instance_var = variable(fields, "instance_var");
    let increment_var = variable(fields, "increment_var");
    let require = require(fields, &scope);
    let restart = restart(fields);
    let listen = listen(fields, &scope);
    let mode = mode(fields, command.as_ref().map(|command| command.argv.as_slice()));
    let readiness = readiness(fields, &scope, gives_port(&listen), mode.ready());
    let liveness = liveness(fields, &scope, gives_port(&listen));
    let fd_store = fd_store(fields, &listen, &readiness.ready);
    let stop = stop(fields, &scope);
    let rollout = rollout(fields);
    let max_memory_restart = max_memory(fields);
    let logs = logs(fields, &scope);
    let on_event = on_event(fields, &scope);
    let (name, name_span) = name?;
    let Listen {
        list: listen,
        spans: listen_spans,
    } = listen;
    let base = AppSpec::new(name, command?.argv, cwd.into());
    let spec = AppSpec {
        namespace,
        balance: balance::balance(fields),
        instances: instances?,
        instance_var: instance_var.unwrap_or_else(|| "NODE_APP_INSTANCE".to_owned()),
        increment_var,
        env: scope.own,
        env_base: scope.base,
        require,
        listen,
        exec_mode: mode.exec,
        preload: mode.preload,
        max_requests: mode.max_requests,
        ipc: fields.boolean("ipc").unwrap_or(false),
        on_demand: on_demand(fields),
        restart,
        ready: readiness.ready,
        listen_timeout: readiness.timeout,
        ready_on_timeout: readiness.ready_on_timeout,
        health: liveness.health,
        watchdog: liveness.watchdog,
        hang_timeout: liveness.hang_timeout,
        max_age: liveness.max_age,
        fd_store,
        stop,
        rollout,
        max_memory_restart,
        logs,
        on_event,
        source: fields.reader.cx.file.map(Into::into),
        ..base
    };
    check_increment(fields, &spec);
    health::check(fields, &spec);
    check(fields, &spec, place);
    demand::check(fields, &spec, place);
    balance::check(fields, &spec);
    Some(Built {
        spec,
        name_span,
        listen_spans,
    })
}

fn name(fields: &Fields<'_>, command: Option<&command::Command>) -> Option<(AppName, Span)> {
    let sink = fields.reader.sink;
    if let Some(entry) = fields.get("name") {
        let (text, span) = match &entry.node.value {
            Value::Text(_) => fields.text("name")?,
            Value::Int(_)
            | Value::Float(_)
            | Value::Bool(_)
            | Value::Date(_)
            | Value::Null
            | Value::List(_)
            | Value::Table(_) => {
                fields.reader.wrong("name", &entry.node, "a string");
                return None;
            }
        };
        return match text.parse() {
            Ok(name) => Some((name, span.clone())),
            Err(error) => {
                fields.reader.bad("name", span, error.to_string());
                None
            }
        };
    }
    let command = command?;
    match command.name.parse() {
        Ok(name) => Some((name, command.span.clone())),
        Err(error) => {
            sink.push(
                Diagnostic::error(command.span.clone(), "name", format!("this app needs a name: {error}"))
                    .hint("give it one: `name = \"…\"`"),
            );
            None
        }
    }
}

/// A variable that is counted up from nothing is rarely meant.
fn check_increment(fields: &Fields<'_>, spec: &AppSpec) {
    let (Some(name), Some((_, span))) = (&spec.increment_var, fields.text("increment_var")) else {
        return;
    };
    let value = spec.variable(name).map(|value| value.to_text().trim().parse::<i64>());
    let message = match value {
        Some(Ok(_)) => return,
        Some(Err(_)) => format!("`{name}` is not a whole number, so it will be 0, 1, 2, …"),
        None => format!("`{name}` is not set, so it will be 0, 1, 2, …"),
    };
    fields.reader.sink.push(
        Diagnostic::warning(span.clone(), "increment_var", message)
            .hint(format!("set it: `env = {{ {name} = 3000 }}`")),
    );
}

fn namespace(fields: &Fields<'_>) -> Namespace {
    let Some((text, span)) = fields.text("namespace") else {
        return Namespace::default();
    };
    text.parse().unwrap_or_else(|error: crate::model::names::NameError| {
        fields.reader.bad("namespace", span, error.to_string());
        Namespace::default()
    })
}
