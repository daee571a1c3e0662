//! clmgr keeps programs running on a Linux machine. This page is the map of its code.
//!
//! # Processes
//!
//! ```text
//! systemd, a shell, or PID 1 of a container
//! └─ clmgr keeper            decides nothing: forks, reaps, holds descriptors, restarts the daemon
//!    ├─ clmgr daemon         decides everything; may die or be replaced at any moment
//!    ├─ node server.js       api:0      every app process is a child of the keeper,
//!    └─ python worker.py     worker:0   a sibling of the daemon
//! clmgr start …              the CLI: HTTP/JSON over the Unix control socket
//! ```
//!
//! One binary, three roles; `main.rs` picks one. Keeper and daemon talk over a socket pair in numbered, versioned
//! messages ([`keeper::protocol`]). The keeper holds each app's pidfd, the read ends of its output pipes and the
//! write end of its input, so that an app never notices that a daemon died, and the next daemon goes on where the
//! last one stopped (`daemon::recover`).
//!
//! # Modules
//!
//! | module | layer | what it is |
//! |---|---|---|
//! | [`model`] | 0 | the vocabulary: names, ids, specs, states, exits, sizes, durations, events; no I/O |
//! | [`config`] | 1 | `ecosystem.toml` in, specs or all problems at once out; pure |
//! | [`supervise`] | 1 | the core: (state, input, now) → outputs; pure |
//! | [`api`] | 1 | wire types, the route table, OpenAPI; shared by both sides; pure |
//! | [`os`] | 2 | every system call that std has no safe word for, and every `unsafe` |
//! | [`keeper`] | 2 | the keeper's loop and its protocol, both ends |
//! | [`node`] | 2 | Node's IPC channel |
//! | [`logs`] | 2 | from pipes to files: pump, framing, rotation, compression; and reading them again |
//! | [`store`] | 2 | SQLite on a thread of its own; numbered migrations |
//! | [`client`] | 2 | HTTP over the control socket; starts the keeper when none runs |
//! | [`daemon`] | 3 | wiring: the loop, the performers, recovery, the HTTP server |
//! | [`cli`] | 3 | arguments, one file per command, rendering; [`cli::ui`] alone writes to the terminal |
//!
//! A module uses lower layers only, and nothing of its own layer, except: `keeper`, `node` and `logs` use `os`;
//! `client` uses `os`; `store` uses the wire types of `api` that it keeps; `daemon` uses every layer-2 module but
//! `client`; `cli` uses neither `daemon`, `supervise` nor `store`. `tests/architecture.rs` enforces it.
//!
//! # The way of a command
//!
//! `clmgr scale api 8` → `cli::commands::scale` → `client` → `POST /v1/scale` → `daemon::http::write` →
//! [`supervise::Core::handle`] → `Commit` (the store writes what is wanted, fsync) → `Committed` → `Spawn` × n →
//! keeper → `Spawned` × n → readiness → all goals of the ticket are met → `Reply`. Nothing that a command asks for
//! happens before it is on disk; the answer comes when the effect has happened.
//!
//! # The way of a crash
//!
//! SIGCHLD → keeper reaps, keeps the exit until it is acknowledged → `Exited` → the log pump writes the last words →
//! the core decides by `supervise::policy` → `Sweep` (nothing of the dead tree may be left) → `Spawn`, or a timer, or
//! an open circuit with an event and an alert.
//!
//! # Glossary
//!
//! * **app**: one entry of `ecosystem.toml`; **instance**: one of its processes, in a numbered **slot**.
//! * **run**: one life of one process; its number is never used twice.
//! * **generation**: the spec a run was started from; a **rollout** replaces one generation by the next.
//! * **stable**: became ready and lived at least `min_uptime`; **unstable**: ended before that.
//! * **circuit**: closed, open (nothing is started), or probing (one instance is tried).
//! * **wanted**: what the user asked for, durable; **held**: an instance stopped by itself while its app runs.
//! * **sweep**: making sure that nothing is left of a dead leader's process tree.

pub mod api;
pub mod cli;
pub mod client;
pub mod config;
pub mod daemon;
pub mod keeper;
pub mod logs;
pub mod model;
pub mod node;
pub mod os;
pub mod store;
pub mod supervise;
