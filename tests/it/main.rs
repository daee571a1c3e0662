//! The real program, as a user has it: every test starts its own clmgr in a home of its own.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed step fails the test")]
#![expect(
    clippy::disallowed_methods,
    reason = "tests write files and guard against hanging; the program has no such excuse"
)]
#![expect(unreachable_pub, reason = "one binary; nothing here has users outside")]

mod addresses;
mod api;
mod bad_days;
mod bad_input;
mod balance;
mod cluster;
mod cluster_kills;
mod damage;
mod demand;
mod disk;
mod doctor;
mod exit_codes;
mod fork_bomb;
mod gap;
mod hang;
mod harness;
mod health;
mod identity;
mod killing;
mod last_words;
mod listen;
mod log_api;
mod log_budget;
mod log_cli;
mod log_disk;
mod log_floods;
mod log_flush;
mod log_formats;
mod log_kills;
mod log_losses;
mod log_share;
mod log_targets;
mod logs;
mod memory;
mod notify;
mod numbered;
mod offtheshelf;
mod progress;
mod readiness;
mod records;
mod recovery;
mod reload;
mod reopen;
mod resources;
mod restart_law;
mod runtime;
mod service;
mod smoke;
mod stop;
mod survival;
mod trigger;
mod upgrade;
