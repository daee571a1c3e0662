//! The page about one app: what it is, how it does, why it failed, where its logs are.

use crate::api::logs::LogSource;
use crate::api::status::{AppDescription, Crash, InstanceStatus, ListenerStatus};
use crate::cli::render::human::{count, local_time, uptime, value};
use crate::cli::render::results::safe;
use crate::cli::render::{event, health, table};
use crate::cli::ui::{BAD, BOLD, DIM};
use crate::model::balance::ExecMode;
use crate::model::exit::signal_name;
use crate::model::ostext::OsText;
use crate::model::spec::{AppSpec, Order, Ready, RestartMode};

/// Crashes and events shown.
const NEWEST: usize = 5;
/// Files of one stream that are named one by one.
const FEW_LOGS: usize = 2;

/// The page, with styles.
#[must_use]
pub fn page(app: &AppDescription, width: usize, coloured: bool) -> String {
    let mut page = Page::default();
    let status = &app.status;
    page.title(&format!("{} (id {}, {})", status.name, status.id, status.state));
    if let Some(reason) = &app.reason {
        page.line(&format!("{BAD}{}{BAD:#}", safe(reason)));
    }
    facts(&mut page, app);
    page.title("instances");
    let one = crate::api::status::StatusReply {
        apps: vec![status.clone()],
    };
    page.line(&table::render(&one, width, coloured));
    for instance in &status.instances {
        if let Some(known) = &instance.health {
            page.line(&health::line(instance.slot, known));
        }
    }
    for (exit, instances) in last_exits(&status.instances) {
        page.line(&format!("{DIM}last end of {instances}: {exit}{DIM:#}"));
    }
    for instance in &status.instances {
        if let Some(text) = &instance.status_text {
            page.line(&format!("{DIM}instance {} says:{DIM:#} {}", instance.slot, safe(text)));
        }
    }
    crashes(&mut page, &app.crashes);
    custom(&mut page, app);
    if !app.logs.is_empty() {
        page.title("logs");
        for (name, path) in log_files(&app.logs) {
            page.fact(&name, &path);
        }
    }
    if !app.events.is_empty() {
        page.title("newest events");
        for one in app.events.iter().take(NEWEST) {
            page.line(&event::line(one));
        }
    }
    page.text
}

fn facts(page: &mut Page, app: &AppDescription) {
    let spec = &app.spec;
    page.fact("command", &command(&spec.argv));
    page.fact("folder", &spec.cwd.to_text());
    if let Some(source) = &spec.source {
        page.fact("from", &source.to_text());
    }
    page.fact("namespace", spec.namespace.as_str());
    page.fact("instances", &format!("{} wanted", app.status.desired));
    for socket in &app.status.listeners {
        page.fact("listens on", &listener(socket));
    }
    if let Some(on_demand) = spec.on_demand {
        let idle = on_demand.idle_timeout.map_or_else(String::new, |timeout| {
            format!("; stopped when nobody is connected for {timeout}")
        });
        page.fact("start", &format!("by the first connection{idle}"));
    }
    page.fact("ready", &ready(&spec.ready));
    for (name, text) in health::facts(spec) {
        page.fact(name, &text);
    }
    if spec.fd_store > 0 {
        let stored: u32 = app
            .status
            .instances
            .iter()
            .map(|instance| instance.stored_descriptors)
            .sum();
        page.fact(
            "keeps",
            &format!("{stored} descriptors; {} per instance are possible", spec.fd_store),
        );
    }
    page.fact("restart", &restart(spec));
    page.fact(
        "stop",
        &format!("{}, killed after {}", told(spec), spec.stop.kill_timeout),
    );
    page.fact("reload", &reload(spec));
    if let Some(limit) = spec.max_memory_restart {
        page.fact("memory", &format!("replaced above {limit}"));
    }
    if !spec.require.env.is_empty() {
        page.fact("requires", &spec.require.env.join(", "));
    }
    page.fact("environment", &count(spec.env.len() + spec.env_base.len(), "variable"));
    if let Some(created) = app.created {
        page.fact("created", &local_time(created));
    }
}

/// How the last runs ended, instances that ended alike together: `instance 2`, `instances 0, 1, 3`.
fn last_exits(instances: &[InstanceStatus]) -> Vec<(String, String)> {
    let mut alike: Vec<(String, Vec<String>)> = Vec::new();
    for instance in instances {
        let Some(exit) = instance.last_exit else { continue };
        let (exit, slot) = (exit.to_string(), instance.slot.to_string());
        match alike.iter_mut().find(|(known, _)| *known == exit) {
            Some((_, slots)) => slots.push(slot),
            None => alike.push((exit, vec![slot])),
        }
    }
    let named = |slots: Vec<String>| match slots.as_slice() {
        [slot] => format!("instance {slot}"),
        _ => format!("instances {}", slots.join(", ")),
    };
    alike.into_iter().map(|(exit, slots)| (exit, named(slots))).collect()
}

/// Names and paths of log files. The files of many instances become one line with a `*`, as a shell reads it.
fn log_files(logs: &[LogSource]) -> Vec<(String, String)> {
    let mut lines: Vec<(String, String)> = Vec::new();
    for source in logs {
        let stream = source.stream.map_or("both", crate::model::logspec::Stream::as_str);
        let path = source.path.to_text();
        let common = |slot| {
            let (folder, name) = path.rsplit_once('/')?;
            let starred = name.replacen(&format!("-{slot}-"), "-*-", 1);
            (starred != name).then(|| (format!("all {stream}"), format!("{folder}/{starred}")))
        };
        let many = logs.iter().filter(|other| other.stream == source.stream).count() > FEW_LOGS;
        let one = |slot: Option<u32>| {
            let slot = slot.map_or_else(|| "all".to_owned(), |slot| slot.to_string());
            (format!("{slot} {stream}"), path.to_string())
        };
        let line = source
            .slot
            .filter(|_| many)
            .and_then(common)
            .unwrap_or_else(|| one(source.slot));
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines
}

fn crashes(page: &mut Page, crashes: &[Crash]) {
    if crashes.is_empty() {
        return;
    }
    page.title("newest crashes");
    for crash in crashes.iter().take(NEWEST) {
        page.line(&format!(
            "{}  instance {} (pid {})  {BAD}{}{BAD:#} after {}",
            local_time(crash.at),
            crash.slot,
            crash.pid,
            crash.exit,
            uptime(crash.uptime_ms),
        ));
        for line in &crash.stderr {
            page.line(&format!("{DIM}  │ {}{DIM:#}", safe(line)));
        }
    }
}

/// What it tells of itself, and what it can be asked for.
fn custom(page: &mut Page, app: &AppDescription) {
    if !app.metrics.is_empty() {
        page.title("metrics");
    }
    for instance in &app.metrics {
        for metric in &instance.metrics {
            let value = value(&metric.value);
            let unit = metric.unit.as_deref().unwrap_or_default();
            let line = format!("{}  {value} {unit}", metric.name);
            page.fact(&format!("{}:{}", app.status.name, instance.slot), line.trim_end());
        }
    }
    if !app.actions.is_empty() {
        page.title("actions");
        for action in &app.actions {
            let params = if action.takes_params { " [PARAMS]" } else { "" };
            page.line(&format!(
                "  clmgr trigger {} {}{params}",
                app.status.name,
                safe(&action.name)
            ));
        }
    }
}

/// `0.0.0.0:0 (port 40123, named http, 2 connections wait)`.
fn listener(socket: &ListenerStatus) -> String {
    let mut notes = Vec::new();
    let said = socket.port.map(|port| (port, format!(":{port}")));
    if let Some((port, _)) = said.filter(|(_, ending)| !socket.address.ends_with(ending)) {
        notes.push(format!("port {port}"));
    }
    notes.push(format!("named {}", socket.name));
    if !socket.bound {
        notes.push("not bound".to_owned());
    }
    match socket.queued {
        Some(0) | None => {}
        Some(1) => notes.push("1 connection waits".to_owned()),
        Some(many) => notes.push(format!("{many} connections wait")),
    }
    let spread = balance(socket).map_or_else(String::new, |text| format!("  {text}"));
    format!("{} ({}){spread}", socket.address, notes.join(", "))
}

/// `even, waiting 0+3+0; out of rotation: 1`.
fn balance(socket: &ListenerStatus) -> Option<String> {
    let live = socket.balance?;
    let mut text = match (socket.wanted_balance, &socket.balance_reason) {
        (Some(wanted), Some(why)) => format!("{live} instead of {wanted}: {}", safe(why)),
        (_, _) => live.to_string(),
    };
    if socket.queued.is_some_and(|queued| queued > 0) {
        let queues: Vec<String> = socket
            .slots
            .iter()
            .map(|slot| slot.queued.unwrap_or(0).to_string())
            .collect();
        text.push_str(&format!(", waiting {}", queues.join("+")));
    }
    let out: Vec<String> = socket
        .slots
        .iter()
        .filter(|slot| !slot.in_rotation)
        .map(|slot| slot.slot.to_string())
        .collect();
    if !out.is_empty() {
        text.push_str(&format!("; out of rotation: {}", out.join(", ")));
    }
    Some(text)
}

/// As it could be typed.
pub(super) fn command(argv: &[OsText]) -> String {
    let quoted = argv.iter().map(|word| {
        let text = word.to_text();
        shlex::try_quote(&text).map_or_else(|_| safe(&text), |quoted| safe(&quoted))
    });
    quoted.collect::<Vec<_>>().join(" ")
}

fn ready(ready: &Ready) -> String {
    match ready {
        Ready::Spawn => "as soon as it runs".to_owned(),
        Ready::Listen => "when it listens".to_owned(),
        Ready::Ipc => "when it sends 'ready'".to_owned(),
        Ready::Notify => "when it notifies READY=1".to_owned(),
        Ready::Fd(number) => format!("when it writes to descriptor {number}"),
        Ready::Http(url) => format!("when {url} answers"),
        Ready::Tcp(address) => format!("when {address} accepts a connection"),
        Ready::Exec(argv) => format!("when {} succeeds", command(argv)),
        Ready::Log(pattern) => format!("when it prints /{pattern}/"),
    }
}

fn restart(spec: &AppSpec) -> String {
    let law = &spec.restart;
    let mode = match law.mode {
        RestartMode::Always => "always",
        RestartMode::OnFailure => "on failure",
        RestartMode::Never => return "never".to_owned(),
    };
    format!("{mode}; gives up after {} crashes in {}", law.max_restarts, law.window)
}

fn reload(spec: &AppSpec) -> String {
    let order = match spec.rollout.order {
        Some(Order::StartFirst) => "new first",
        Some(Order::StopFirst) => "old first",
        None => "new first where ports allow",
    };
    let back = if spec.rollout.rollback {
        "rolls back"
    } else {
        "does not roll back"
    };
    format!("{order}, {} at a time, {back}", spec.rollout.parallel)
}

/// Text under construction.
#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn line(&mut self, text: &str) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.text.push_str(text);
    }

    fn title(&mut self, text: &str) {
        if !self.text.is_empty() {
            self.line("");
        }
        self.line(&format!("{BOLD}{text}{BOLD:#}"));
    }

    fn fact(&mut self, name: &str, value: &str) {
        self.line(&format!("  {DIM}{name:<12}{DIM:#} {}", safe(value)));
    }
}

/// How an instance hears that it is to stop.
fn told(spec: &AppSpec) -> String {
    match (spec.stop.message, spec.exec_mode) {
        (true, _) => "the message \"shutdown\"".to_owned(),
        (false, ExecMode::Cluster) => "disconnect, as a cluster's primary says it".to_owned(),
        (false, ExecMode::Fork) => signal_name(spec.stop.signal),
    }
}
