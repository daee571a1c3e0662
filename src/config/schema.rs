//! The table of keys: the single source for checking, for the documentation and for the JSON schema.

use crate::config::balance::BALANCES;
use crate::config::fd_store::MAX_FD_STORE;
use crate::config::tables::{BACKOFF, FACILITIES, LOG_ROTATE, MAX_AGE, REQUIRE, ROLLOUT};

/// What a value may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    /// A string.
    Text,
    /// A command: a string split like a shell would, or an array of strings.
    Words,
    /// A string or an array of strings.
    Texts,
    /// `true` or `false`.
    Bool,
    /// A duration.
    Duration,
    /// A duration or `"never"`.
    DurationOrNever,
    /// A size.
    Size,
    /// A size or `"none"`.
    SizeOrNone,
    /// A size, a percentage, `"auto"` or `"none"`.
    FreeSpace,
    /// A whole number, at least 1.
    Count,
    /// A number between.
    Number(f64, f64),
    /// `instances`.
    Instances,
    /// One of these strings.
    Choice(&'static [&'static str]),
    /// A table of these keys.
    Table(&'static [Key]),
    /// A table of these keys, or a boolean.
    TableOrBool(&'static [Key]),
    /// A table of variables.
    Env,
    /// A boolean or an array of names.
    Inherit,
    /// A number or an array of numbers, 0 to 255.
    ExitCodes,
    /// A signal's name or number.
    Signal,
    /// `ready`.
    Ready,
    /// `health`.
    Health,
    /// A duration, or a table of these keys.
    DurationOrTable(&'static [Key]),
    /// `listen`.
    Listen,
    /// Names of events to commands.
    Events,
}

/// One key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Key {
    pub(super) name: &'static str,
    /// Other names, most of them PM2's.
    pub(super) aliases: &'static [&'static str],
    pub(super) kind: Kind,
    /// As it would be written; empty if there is none.
    pub(super) default: &'static str,
    pub(super) doc: &'static str,
}

pub(super) const fn key(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Key {
    Key {
        name,
        aliases: &[],
        kind,
        default,
        doc,
    }
}

impl Key {
    const fn or(self, aliases: &'static [&'static str]) -> Self {
        Self { aliases, ..self }
    }
}

/// The groups of keys of an app, with their titles.
pub(super) const GROUPS: &[(&str, &[Key])] = &[
    (
        "what to run",
        &[
            key(
                "name",
                Kind::Text,
                "the script's or program's name",
                "Unique among all apps.",
            ),
            key(
                "cmd",
                Kind::Words,
                "",
                "Program and arguments, without a shell. Instead of `script`.",
            ),
            key(
                "script",
                Kind::Text,
                "",
                "A file to run, relative to `cwd`. Instead of `cmd`.",
            ),
            key("args", Kind::Words, "[]", "Arguments of the script."),
            key(
                "interpreter",
                Kind::Text,
                "by extension",
                "Program that runs the script; `\"none\"`: the script itself.",
            )
            .or(&["exec_interpreter"]),
            key(
                "node_preload",
                Kind::Bool,
                "true",
                "With `exec_mode = \"cluster\"`: a small file is loaded before the app (by `NODE_OPTIONS`) that closes keep-alive connections without losing a request, and ends a worker that has served everything.",
            ),
            key(
                "max_requests",
                Kind::Count,
                "",
                "With `exec_mode = \"cluster\"`: a worker that has answered so many HTTP/1 requests, a tenth more or less, is replaced.",
            ),
            key(
                "interpreter_args",
                Kind::Words,
                "[]",
                "Arguments of the interpreter, before the script.",
            )
            .or(&["node_args"]),
            key(
                "cwd",
                Kind::Text,
                "the file's folder",
                "Working folder, relative to the file's folder.",
            ),
            key(
                "namespace",
                Kind::Text,
                "\"default\"",
                "A group of apps that commands can address together.",
            ),
            key(
                "exec_mode",
                Kind::Choice(&["fork", "cluster", "fork_mode", "cluster_mode"]),
                "\"fork\"",
                "`\"cluster\"`: a Node program that calls `server.listen(3000)` shares the port between its instances. The default for a Node `script` with `instances` and without `listen` and `increment_var`.",
            ),
        ],
    ),
    (
        "how many",
        &[
            key(
                "instances",
                Kind::Instances,
                "1",
                "A number, `\"max\"` or 0 (the CPUs this process may use), -1 (one less than that), or a share of them like `\"50%\"`.",
            ),
            key(
                "instance_var",
                Kind::Text,
                "\"NODE_APP_INSTANCE\"",
                "The variable that tells an instance its number.",
            ),
            key(
                "increment_var",
                Kind::Text,
                "",
                "A numeric variable that is increased by the instance's number.",
            ),
        ],
    ),
    (
        "environment",
        &[
            key(
                "env",
                Kind::Env,
                "{}",
                "Variables. `env_<profile>` is put on top with `--env <profile>`.",
            ),
            key(
                "env_file",
                Kind::Texts,
                "[]",
                "Files of `NAME=value` lines, below `env`; later files win.",
            ),
            key(
                "env_inherit",
                Kind::Inherit,
                "true",
                "The caller's variables too: all, only those listed, or (`false`) only `PATH HOME USER LANG TZ SHELL`.",
            ),
        ],
    ),
    (
        "fail fast",
        &[key(
            "require",
            Kind::Table(REQUIRE),
            "{}",
            "Checked before anything is spawned.",
        )],
    ),
    (
        "ports",
        &[
            key(
                "listen",
                Kind::Listen,
                "[]",
                "Sockets that clmgr binds and every instance inherits: `\"0.0.0.0:3000\"`, `\"[::]:3000\"`, `\"udp:0.0.0.0:53\"`, `\"unix:/run/api.sock\"`, `\"unix:@name\"`, or tables.",
            ),
            key(
                "balance",
                Kind::Choice(BALANCES),
                "",
                "How connections are spread over the instances: each has a queue of its own (`even`: by a hash of addresses and ports; `random`; `sticky`: by the client's address; `round-robin`: in turn, where eBPF is allowed), or all have one (`shared`). Without it: even.",
            ),
        ],
    ),
    (
        "on demand",
        &[
            key(
                "start",
                Kind::Choice(&["always", "on-demand"]),
                "\"always\"",
                "`\"on-demand\"`: nothing runs before somebody connects to one of the app's `listen` sockets; what arrives meanwhile waits and is served.",
            ),
            key(
                "idle_timeout",
                Kind::DurationOrNever,
                "\"never\"",
                "An app that is started on demand is stopped again when no connection was open for this long.",
            ),
        ],
    ),
    (
        "messages",
        &[key(
            "ipc",
            Kind::Bool,
            "false",
            "Every instance gets Node's IPC channel (`NODE_CHANNEL_FD`), whatever else it is for: metrics, actions and errors of @pm2/io come over it.",
        )],
    ),
    (
        "restart",
        &[
            key(
                "restart",
                Kind::Choice(&["always", "on-failure", "never"]),
                "\"always\"",
                "Which exits lead to a new start.",
            ),
            key("autorestart", Kind::Bool, "true", "`false` is `restart = \"never\"`."),
            key(
                "stop_exit_codes",
                Kind::ExitCodes,
                "[]",
                "Exit codes that mean: done, do not restart.",
            ),
            key(
                "min_uptime",
                Kind::Duration,
                "\"1s\"",
                "A life shorter than this is unstable.",
            ),
            key(
                "restart_delay",
                Kind::Duration,
                "0",
                "Wait before the restart after a stable life.",
            ),
            key("backoff", Kind::Table(BACKOFF), "{}", "Waits after unstable lives."),
            key(
                "max_restarts",
                Kind::Count,
                "5",
                "Unstable exits of one instance within `restart_window` that open its circuit.",
            ),
            key("restart_window", Kind::Duration, "\"30s\"", "The sliding window."),
            key(
                "breaker_cooldown",
                Kind::DurationOrNever,
                "\"1m\"",
                "How long an open circuit stays open before one probe; doubles up to 10m.",
            ),
        ],
    ),
    (
        "readiness",
        &[
            key(
                "ready",
                Kind::Ready,
                "\"spawn\"",
                "When an instance counts as ready: `\"spawn\"`, `\"listen\"` (the default with `exec_mode = \"cluster\"`), `\"ipc\"`, `\"notify\"`, `\"fd:3\"`, or a table with one of `http`, `tcp`, `exec`, `log`.",
            ),
            key(
                "wait_ready",
                Kind::Bool,
                "false",
                "`true` is `ready = \"ipc\"`: `process.send('ready')`.",
            ),
            key(
                "listen_timeout",
                Kind::Duration,
                "\"30s\"",
                "How long readiness may take.",
            ),
            key(
                "on_listen_timeout",
                Kind::Choice(&["fail", "ready"]),
                "\"fail\"",
                "What running out of `listen_timeout` means.",
            ),
            key(
                "fd_store",
                Kind::Number(0.0, MAX_FD_STORE),
                "0",
                "Descriptors that an instance may leave with clmgr by `FDSTORE=1` for the next process in its slot.",
            ),
        ],
    ),
    (
        "health",
        &[
            key(
                "health",
                Kind::Health,
                "",
                "A question that every ready instance is asked again and again: a table with one of `http`, `tcp`, `unix`, `exec`. An instance that fails it gets no new connections and is replaced.",
            ),
            key(
                "watchdog",
                Kind::Duration,
                "",
                "A ready instance says `WATCHDOG=1` to `NOTIFY_SOCKET` at least this often (it finds the time in `WATCHDOG_USEC`), or is replaced. At least 100ms.",
            ),
            key(
                "hang_timeout",
                Kind::Duration,
                "",
                "An instance that leaves connections of `listen` waiting for this long and accepts none is replaced. At least 1s.",
            ),
            key(
                "max_age",
                Kind::DurationOrTable(MAX_AGE),
                "",
                "Instances that have been ready for longer are replaced, one at a time.",
            ),
        ],
    ),
    (
        "stop",
        &[
            key(
                "stop_signal",
                Kind::Signal,
                "\"SIGTERM\"",
                "Sent first, to the process group.",
            ),
            key(
                "kill_timeout",
                Kind::Duration,
                "\"10s\"",
                "After this, SIGKILL to the whole tree.",
            ),
            key(
                "shutdown_with_message",
                Kind::Bool,
                "false",
                "Send `\"shutdown\"` over Node's IPC channel instead of the signal.",
            ),
            key(
                "treekill",
                Kind::Bool,
                "true",
                "Signal and kill the whole tree rather than the one process.",
            ),
            key("pre_stop", Kind::Words, "", "A command run before the signal."),
        ],
    ),
    (
        "rollout",
        &[key(
            "rollout",
            Kind::Table(ROLLOUT),
            "{}",
            "How `reload` replaces one generation by the next.",
        )],
    ),
    (
        "memory",
        &[key(
            "max_memory_restart",
            Kind::Size,
            "",
            "Replace an instance whose process tree holds more memory than this.",
        )],
    ),
    (
        "logs",
        &[
            key(
                "out_file",
                Kind::Text,
                "in the logs folder",
                "Where standard output goes, relative to the file's folder.",
            )
            .or(&["output", "out"]),
            key(
                "error_file",
                Kind::Text,
                "in the logs folder",
                "Where standard error goes.",
            )
            .or(&["error", "err_file", "err"]),
            key("log_file", Kind::Text, "", "A file that gets both, besides the two.").or(&["log"]),
            key(
                "merge_logs",
                Kind::Bool,
                "false",
                "All instances write to the same files.",
            )
            .or(&["combine_logs"]),
            key(
                "log_date_format",
                Kind::Text,
                "",
                "Put a timestamp before each line: `%Y-%m-%d` or PM2's `YYYY-MM-DD`.",
            ),
            key("time", Kind::Bool, "false", "`true`: ISO 8601 timestamps."),
            key(
                "log_type",
                Kind::Choice(&["raw", "json"]),
                "\"raw\"",
                "Lines as they are, or one JSON object each.",
            ),
            key(
                "log_rotate",
                Kind::TableOrBool(LOG_ROTATE),
                "{}",
                "When logs are rotated; `false`: never.",
            ),
            key(
                "log_overflow",
                Kind::Choice(&["block", "drop"]),
                "\"block\"",
                "A slow disk slows the app down, or lines are lost and counted.",
            ),
            key(
                "log_timezone",
                Kind::Text,
                "\"local\"",
                "The zone of timestamps, JSON times and `log_rotate.every`: a name like `\"Europe/Berlin\"`, `\"UTC\"`, or the machine's own.",
            ),
            key(
                "log_to",
                Kind::Texts,
                "\"files\"",
                "Where output goes, one or several of `\"files\"`, `\"journald\"`, `\"syslog\"`, `\"stdout\"` (under `clmgr runtime`).",
            ),
            key(
                "syslog_facility",
                Kind::Choice(FACILITIES),
                "\"daemon\"",
                "The facility of lines that go to syslog.",
            ),
            key("disable_logs", Kind::Bool, "false", "Keep nothing."),
        ],
    ),
    (
        "alerts",
        &[key(
            "on_event",
            Kind::Events,
            "{}",
            "Commands run on events, by the event's name: `{ circuit_open = \"notify-me\" }`.",
        )],
    ),
];

/// Every key of an app.
pub(super) fn app_keys() -> impl Iterator<Item = &'static Key> {
    GROUPS.iter().flat_map(|(_, keys)| keys.iter())
}

/// The key that a name or alias means.
pub(super) fn find<'k>(mut keys: impl Iterator<Item = &'k Key>, name: &str) -> Option<&'k Key> {
    keys.find(|key| key.name == name || key.aliases.contains(&name))
}

/// The names of all supported keys.
pub(super) fn supported() -> String {
    let mut names: Vec<&str> = app_keys().map(|key| key.name).collect();
    names.push("env_<profile>");
    names.sort_unstable();
    names.join(", ")
}
