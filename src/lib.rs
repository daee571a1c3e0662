//! clmgr keeps programs running on a Linux machine. This page is the map of its code.
//!
//! # Processes
//!
//! ```text
//! systemd, a shell, or PID 1 of a container
//! └─ clmgr keeper            decides nothing: forks, reaps, holds descriptors, restarts the daemon;
//!    │                       `clmgr runtime` becomes it by exec
//!    ├─ clmgr daemon         decides everything; may die or be replaced at any moment
//!    ├─ node server.js       api:0      every app process is a child of the keeper,
//!    └─ python worker.py     worker:0   a sibling of the daemon
//! clmgr start …              the CLI: HTTP/JSON over the Unix control socket
//! ```
//!
//! One binary, three roles; `main.rs` picks one. Keeper and daemon talk over a socket pair in numbered, versioned
//! messages ([`keeper::protocol`]; version 4 is spoken, all since 1 are understood). The keeper holds each app's
//! pidfd, the read ends of its output pipes and the write end of its input, so that an app never notices that a
//! daemon died, and the next daemon goes on where the last one stopped (`daemon::recover`). It also keeps the
//! control socket (`daemon::doors`), the apps' listening sockets (`daemon::listeners`), what apps have stored
//! (`daemon::fdstore`) and, under systemd, copies of what nobody could open again in the service manager's store
//! (`keeper::service`). If the keeper dies, the daemon replaces it (`daemon::replace`). If both die, the next pair
//! knows survivors by their records, and by the marks in their environment where no record was written
//! (`daemon::survivors`).
//!
//! `clmgr runtime` is the keeper in the foreground (`keeper::runtime`). Users' files are read by a helper, the same
//! command line with `CLMGR_RUNTIME_STEP` set, at the start and on SIGHUP; the daemon writes app output to the
//! keeper's standard streams (`logs::console`) and says when it is the end (`daemon::runtime`).
//!
//! # Modules
//!
//! | module | layer | what it is |
//! |---|---|---|
//! | [`model`] | 0 | the vocabulary: names, ids, specs, states, exits, sizes, durations, addresses, events; no I/O |
//! | [`config`] | 1 | `ecosystem.toml` in, specs or all problems at once out; pure |
//! | [`supervise`] | 1 | the core: (state, input, now) → outputs; pure |
//! | [`api`] | 1 | wire types, the route table, OpenAPI; shared by both sides; pure |
//! | [`os`] | 2 | every system call that std has no safe word for, and every `unsafe` |
//! | [`keeper`] | 2 | the keeper's loop and its protocol, both ends; its upgrade in place; as a service, as a runtime |
//! | [`node`] | 2 | Node's IPC channel, the protocol of a cluster's primary, what `@pm2/io` says, the workers' preload; pure |
//! | [`logs`] | 2 | from pipes to files and other targets, bounded, surviving a kill; and reading them again |
//! | [`store`] | 2 | SQLite on a thread of its own; numbered migrations, backup, reserve |
//! | [`client`] | 2 | HTTP over the control socket; starts the keeper when none runs |
//! | [`daemon`] | 3 | wiring: the loop, the performers, recovery, the HTTP server, and the parts below |
//! | [`cli`] | 3 | arguments, one file per command, rendering, units (`cli::boot`); [`cli::ui`] alone writes to the terminal |
//!
//! Parts of the daemon that look after apps while they run:
//!
//! | part | what it is |
//! |---|---|
//! | `daemon::listeners` | sockets that belong to apps: binding, lanes, the rotation, drain, rescue, closing, recovery |
//! | `daemon::channel` | the IPC channels: one task each reads and writes, the loop answers |
//! | `daemon::cluster` | the primary of Node clusters: sockets for workers, `disconnect`, sharing out a blocked worker's queue |
//! | `daemon::ready` | readiness at the start, by whichever rule |
//! | `daemon::health` | whether a ready instance goes on to work: probe, heartbeat, queue |
//! | `daemon::notify` | the server of `NOTIFY_SOCKET` |
//! | `daemon::fdstore` | descriptors that instances leave for the next process in their slot |
//! | `daemon::demand` | apps that the first connection starts, and that stop when nobody is connected |
//! | `daemon::custom`, `daemon::trigger` | metrics, actions and errors of apps written for PM2 |
//!
//! Parts of the logs:
//!
//! | part | what it is |
//! |---|---|
//! | `logs::pump` | the one thread that reads pipes and writes files, and its handle |
//! | `logs::pump::drops` | a second thread for `log_overflow = "drop"`: empties pipes while the first one is inside a slow write |
//! | `logs::pump::patience` | for `"block"`: lines wait for room on a full disk, for a while |
//! | `logs::outage` | a file that cannot be written: what is lost is counted, and a marker says so |
//! | `logs::frame`, `logs::stamp`, `logs::tokens`, `logs::level` | what a line looks like: timestamps, moment.js' tokens, JSON with a level |
//! | `logs::file`, `logs::rotate`, `logs::compress` | one log file and its writer; its rotated files; gzip |
//! | `logs::bounds`, `logs::tidy` | which rotated files have to go, pure; and the rounds that remove them |
//! | `logs::journal` | what is on its way, safe from a kill; `area`: the same in mapped memory |
//! | `logs::words`, `logs::stderr` | the last words of a run, safe from a kill |
//! | `logs::target` | journald and syslog: sockets, queues, gaps |
//! | `logs::console` | the standard streams of `clmgr runtime` |
//! | `logs::times` | when the bytes of a log were written: a sparse index for each inode |
//! | `logs::chain` | the files of one log, newest first, and who they are after renames and gzip |
//! | `logs::query` | history: by time, level and pattern, many logs merged, as a pull iterator |
//! | `logs::tail` | the follower |
//! | `logs::watch` | readiness by a line that matches |
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
//! SIGCHLD → keeper reaps, keeps the exit until it is acknowledged → `Exited` → the log pump writes the last words
//! to the files, and tells those of standard error (`logs::words`) → the core decides by `supervise::policy`, which
//! holds nothing against an end that a dead daemon may have ordered (`policy::lost_order`) → `Sweep` (nothing of the dead tree may be left) → `Spawn`, or a timer, or
//! an open circuit with an event and an alert.
//!
//! One pass of the loop hands its events, crashes and the records of the apps that changed to the store as one batch,
//! which is one transaction: the next daemon does again exactly what was not told. Answers, and the processes of
//! rollouts, wait for it (`daemon::perform`).
//!
//! # The way of a line
//!
//! The app's `write` → pipe → the pump wakes (`logs::pump`). Raw standard output of one writer: `splice` from pipe to
//! file, and nobody looks at it, unless the app is busy and the journal is mapped: a splice keeps the writer out of
//! its pipe. All else: into the journal's spool (`logs::journal`), which is the read buffer where its folder can be
//! mapped → framed (`logs::frame`) → first to journald and syslog (`logs::target`), then to the
//! file or to both files → the time index hears of it (`logs::times`) → the journal forgets it. A line without its
//! end waits in the journal where lines are written as a whole.
//!
//! The file would grow too large, or its day is over: renamed after a whole line (`logs::rotate`) → compressed
//! (`logs::compress`) → what is over the bounds is removed (`logs::bounds`, `logs::tidy`).
//!
//! No room: rotated files go → tried again, for ten seconds, while the app's pipe fills (`logs::pump::patience`) →
//! then what comes is lost and counted (`logs::outage`) until there is room → the marker. A slow disk: the pipe fills
//! and the app waits; or, with `log_overflow = "drop"`, its pipe is emptied beside the pump, and a marker joins both
//! sides of the gap (`logs::pump::drops`).
//!
//! Back: `clmgr logs` asks the daemon where the files are, and reads them itself: `logs::query` for what was,
//! `logs::tail` for what comes. `GET /v1/logs` does the same on a thread for each client, which goes on where it was
//! broken off (`daemon::http::logs`).
//!
//! Another program renamed the file → `clmgr reopen` → daemon; or SIGUSR2 → keeper → `Reopen` → daemon → the pump
//! opens what has the name now; a line that has begun moves there as a whole.
//!
//! # The way of a connection
//!
//! SYN → the kernel runs the program of the address's group (`os::reuseport`) → the queue of one lane in rotation →
//! the instance accepts it. Nothing of ours is on this way: `daemon::listeners::rotation` has changed the program
//! when a run came, became unhealthy, was promoted or is to stop, before anybody was told. A probe comes from
//! 127.77.0.0/16, in which every program finds a place in the group, so it reaches the instance that is meant
//! (`daemon::ready::network`).
//!
//! Where nobody accepts: the successor in the slot does; an idle worker of the cluster gets it (`daemon::cluster`);
//! or it is rescued. Where nobody runs, a readable socket is the first connection → `Demand` → `Spawn` with the
//! socket, whose queue holds it; later nobody is connected (`os::connections`) → SIGSTOP → looked again → `Idle` →
//! stop → SIGCONT.
//!
//! # The way of a reload
//!
//! `clmgr reload api` → `require` is checked → [`supervise::rollout`] takes the first slots → `Spawn` on the slot's
//! other lane → ready → `Proving`: probes, but no users, for `min_healthy` and until the health probe has succeeded
//! → promoted: `current` changes, the rotation follows → `Stop` of the old run → drain: it accepts what waits in
//! its lane → the signal or message → its lane is closed when it has been empty for a second → canaries are watched
//! in service → the next slots → the new spec is written → `Reply`. Whatever fails on the way leads back to the old
//! generation, whose spec was never replaced.
//!
//! # The way of a hang
//!
//! Connections wait → looks at the queue (`os::queue`) → nothing was accepted for `hang_timeout`
//! (`daemon::health::stall` says what proves it) → `Unhealthy` → out of rotation → a rollout of this one slot
//! (`supervise::replacing`) → the replacement is promoted → the hung one is told to stop, then killed.
//!
//! # The way of an upgrade
//!
//! `clmgr upgrade` → `POST /v1/upgrade` → `<exe> handshake` → keeper: a child of the new build reads the state →
//! `Leave` → the old daemon writes and ends → the new one is on `Trial`: it compares what it finds with what was seen,
//! serves, says `Proven` → the keeper executes the new build in place (`keeper::handover`: its knowledge in memory,
//! its descriptors by number) → `Upgraded`. Whatever fails leads back to the build that was there (`keeper::upgrade`
//! draws it).
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
//! * **starved**: of a start that the machine, not the app, made impossible; tried again, not counted.
//! * **listener**: a socket that belongs to an app, not to one of its processes.
//! * **group**: all sockets of one address, in the kernel's order.
//! * **lane**: one of the two sockets that a slot has in turn on an address, for the old and the new run.
//! * **rotation**: the runs that are given new connections: in service, ready, not unhealthy, not about to stop.
//! * **drain**: before a run is told to stop it gets nothing new and accepts what waits in its lane.
//! * **rescue**: the daemon accepts what nobody else will, and passes it on.
//! * **promoted**: a new run that has proved itself is its slot's current one from then on, in service.
//! * **canary**: one of the first instances of a rollout, watched in service before the others follow.
//! * **dormant**: wanted, started on demand, and not running: its sockets wait for the first connection.
//! * **monitor**: the watch over a ready run by its `health`, `watchdog` and `hang_timeout`; **heartbeat**: `WATCHDOG=1`.
//! * **unhealthy**: of a run that was ready and does not work; **futile**: a replacement that was no better.
//! * **hang**: an instance accepts nothing while connections wait; **stall**: the queue that proves it.
//! * **recycle**: replacing an instance that nothing is wrong with, for its age or because it asked.
//! * **main process**: the process that leads a run, the first one or the one that `MAINPID=` named.
//! * **descriptor store**: what instances have left for the next process in their slot (`FDSTORE=1`).
//! * **channel**: the IPC channel of a process that has one.
//! * **worker**: a process of a Node cluster; **preload**: the file that it loads before the app.
//! * **survivor**: a process of an app that outlived the keeper, or keeper and daemon; to **adopt**: to take it over.
//! * **mark**: what every process of an app carries in its environment (`CLMGR_RUN`), by which survivors are known.
//! * **spare**: a copy of the manager's end of an IPC channel that the app itself carries.
//! * **journal**: files for log bytes between pipe and log (`logs::journal`).
//! * **target**: where output goes: files, journald, syslog, standard output of a runtime.
//! * **outage**: a log or target cannot be written; **gap**: lines of one stream that were lost next to each other;
//!   **marker**: the line that stands in their place and counts them.
//! * **last words**: the last lines that a run wrote to standard error.
//! * **time index**: when the bytes of a log were written (`logs::times`).
//! * **backup**: the second copy of the state; **reserve**: room beside it that is given up to stop something.
//! * **detach**: the keeper leaves without its apps (SIGUSR1); the next keeper adopts them.
//! * **trial**: a new build's daemon before it has shown that it finds what the old one saw.
//! * **control gap**: how long nobody answers while one daemon takes over from another.

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
