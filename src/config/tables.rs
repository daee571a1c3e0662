//! The keys of the tables inside an app.

use crate::config::rollout::MOST_CANARIES;
use crate::config::schema::{Key, Kind, key};

/// `require`.
pub(super) const REQUIRE: &[Key] = &[
    key("env", Kind::Texts, "[]", "Variables that must be set and not empty."),
    key(
        "files",
        Kind::Texts,
        "[]",
        "Paths that must exist, relative to the file's folder.",
    ),
    key("tcp", Kind::Texts, "[]", "`host:port` that must accept a connection."),
];

/// `backoff`.
pub(super) const BACKOFF: &[Key] = &[
    key("first", Kind::Duration, "\"1s\"", "Wait after the first unstable exit."),
    key(
        "factor",
        Kind::Number(1.0, 1000.0),
        "2",
        "Growth of the wait with every further unstable exit.",
    ),
    key("max", Kind::Duration, "\"30s\"", "Longest wait."),
    key(
        "jitter",
        Kind::Number(0.0, 1.0),
        "0.1",
        "Share of the wait by which it varies either way.",
    ),
];

/// `rollout`.
pub(super) const ROLLOUT: &[Key] = &[
    key(
        "order",
        Kind::Choice(&["start-first", "stop-first"]),
        "",
        "Whether the new instance starts before the old one stops. Without it: start-first, unless the instances would collide on a listening socket.",
    ),
    key("parallel", Kind::Count, "1", "Instances replaced at a time."),
    key(
        "canary",
        Kind::Number(0.0, MOST_CANARIES),
        "0",
        "So many instances are replaced first and watched in service for `min_healthy` before the others follow. 0: none.",
    ),
    key(
        "min_healthy",
        Kind::Duration,
        "\"2s\"",
        "How long a new instance must stay ready to count.",
    ),
    key(
        "deadline",
        Kind::Duration,
        "\"5m\"",
        "When the whole rollout must be done.",
    ),
    key(
        "on_failure",
        Kind::Choice(&["rollback", "keep"]),
        "\"rollback\"",
        "Restore the old generation when the new one fails, or keep what is there.",
    ),
];

/// An entry of `listen`.
pub(super) const LISTEN: &[Key] = &[
    key(
        "tcp",
        Kind::Text,
        "",
        "`address:port`; port 0: the kernel chooses one, which stays.",
    ),
    key("udp", Kind::Text, "", "`address:port`."),
    key(
        "unix",
        Kind::Text,
        "",
        "A path relative to the file's folder, or `@name` for a name without a file.",
    ),
    key(
        "name",
        Kind::Text,
        "the port or file name",
        "Its name in `LISTEN_FDNAMES`, `{fd:NAME}` and `{port:NAME}`.",
    ),
    key(
        "backlog",
        Kind::Count,
        "511",
        "Connections that may wait; at most `net.core.somaxconn`.",
    ),
    key(
        "mode",
        Kind::Text,
        "what the umask leaves",
        "Permissions of a Unix socket's file, in octal: `\"0660\"`.",
    ),
    key(
        "owner",
        Kind::Text,
        "who runs clmgr",
        "Who owns a Unix socket's file: a name or number; needs root.",
    ),
    key(
        "group",
        Kind::Text,
        "the group of who runs clmgr",
        "The group of a Unix socket's file: a name or number; without root one that who runs clmgr is in.",
    ),
    key(
        "stdin",
        Kind::Bool,
        "false",
        "It is the app's descriptor 0, as for inetd's `wait` services, and is not counted in `LISTEN_FDS`; at most one.",
    ),
];

/// `log_rotate`.
pub(super) const LOG_ROTATE: &[Key] = &[
    key(
        "size",
        Kind::SizeOrNone,
        "\"10M\"",
        "Rotate when the file would grow past this; `\"none\"`: never by size.",
    ),
    key(
        "every",
        Kind::Duration,
        "",
        "Rotate at multiples of this, counted from midnight.",
    ),
    key("keep", Kind::Count, "10", "Rotated files kept of each log."),
    key(
        "total",
        Kind::SizeOrNone,
        "\"1G\"",
        "Bytes of an app's logs together, all instances; the oldest rotated files go first; `\"none\"`: no limit.",
    ),
    key("compress", Kind::Bool, "true", "gzip the rotated files."),
    key(
        "max_age",
        Kind::Duration,
        "",
        "Rotated files whose last line is older are removed.",
    ),
    key(
        "min_free",
        Kind::FreeSpace,
        "\"auto\"",
        "Under this much free space the oldest rotated files go first: a size, a share as `\"5%\"`, `\"none\"`; \
         `\"auto\"` is 1G, or 5% of a file system smaller than 20G.",
    ),
];

/// What `syslog_facility` may be.
pub(super) const FACILITIES: &[&str] = &[
    "user", "daemon", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
];

/// The texts `ready` may be, besides `fd:N` and a table.
pub(super) const READY: &[&str] = &["spawn", "listen", "ipc", "notify"];

/// The tables `ready` may be.
pub(super) const READY_TABLE: &[Key] = &[
    key(
        "http",
        Kind::Text,
        "",
        "A GET of this URL answers 2xx or 3xx; `{port}` is the instance's `PORT`.",
    ),
    key(
        "tcp",
        Kind::Text,
        "",
        "This `host:port` accepts a connection; `{port}` is the instance's `PORT`.",
    ),
    key("exec", Kind::Words, "", "This command exits 0."),
    key(
        "log",
        Kind::Text,
        "",
        "A line of the output matches this regular expression.",
    ),
];

/// `health`.
pub(super) const HEALTH: &[Key] = &[
    key(
        "http",
        Kind::Text,
        "",
        "A GET of this URL answers 2xx or 3xx. `{port}` is the instance's `PORT`, `{slot}` its number, here and below.",
    ),
    key("tcp", Kind::Text, "", "This `host:port` accepts a connection."),
    key(
        "unix",
        Kind::Text,
        "",
        "The Unix socket of this path, relative to the file's folder, accepts a connection.",
    ),
    key(
        "exec",
        Kind::Words,
        "",
        "This command exits 0. It gets the instance's variables and `CLMGR_PID`.",
    ),
    key(
        "interval",
        Kind::Duration,
        "\"10s\"",
        "From the end of one question to the next; at least 100ms.",
    ),
    key("timeout", Kind::Duration, "\"2s\"", "How long an answer may take."),
    key(
        "retries",
        Kind::Count,
        "3",
        "Failures in a row that make an instance unhealthy.",
    ),
    key(
        "start_period",
        Kind::Duration,
        "0",
        "Failures that soon after an instance became ready do not count, until the first success.",
    ),
];

/// `max_age`, where it is a table.
pub(super) const MAX_AGE: &[Key] = &[
    key("after", Kind::Duration, "", "As without the table."),
    key(
        "jitter",
        Kind::Number(0.0, 1.0),
        "0.1",
        "Share of it by which an instance is replaced earlier: those that started together do not end together.",
    ),
];
