//! Nothing is lost under load: servers in several languages are reloaded, replaced by generations that are broken in
//! twelve ways, killed, scaled and left alone by their manager, while requests come at a rate that the machine
//! carries. Every answer is checked and no request is tried again.
//!
//! `cargo test --test load` is the short form, `CLMGR_LOAD=long cargo test --test load` the long one; see
//! [`settings`]. It prints its seed and a table; what may not happen is told in full, the exit code is not zero
//! then, and the folder stays for a look. Nothing that is measured in time is judged.
//!
//! | column | meaning |
//! |---|---|
//! | refused, reset, eof, timeout, 5xx, wrong | requests that failed, by how; must be 0 |
//! | raced | sent on an idle connection that the server was just closing; must be 0 where the server can help it |
//! | own | lost with a process that had accepted them when it was killed or ended by itself; nobody can save these |
//!
//! | file | what |
//! |---|---|
//! | [`generator`] | the load |
//! | [`apps`] | the servers: this binary plays one of them |
//! | [`held`] | which connections a process held when it died |
//! | [`service`] | a server that clmgr runs, and the loads on it |
//! | [`reloads`] | good generations |
//! | [`broken`] | bad generations |
//! | [`incidents`] | everything else that happens under load |
//! | [`demand`] | apps that sleep |
//! | [`world`] | the home: asking, finding, killing |
//! | [`report`] | the table |

#![expect(
    clippy::disallowed_methods,
    reason = "a test writes files; the program has no such excuse"
)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the table is the product")]
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "an error of the system is sorted by those that are expected"
)]

mod apps;
mod broken;
mod demand;
mod generator;
mod held;
mod incidents;
mod random;
mod reloads;
mod report;
mod run;
mod service;
mod settings;
mod world;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [role, rest @ ..] = args.as_slice()
        && role == "app"
        && !rest.is_empty()
    {
        return apps::play(rest).map_or_else(
            |error| {
                eprintln!("error: {error:#}");
                ExitCode::from(99)
            },
            ExitCode::from,
        );
    }
    // What test runners ask of a binary that has no harness: a list, and whether this one is meant.
    let flag = |name: &str| args.iter().any(|arg| arg == name);
    if flag("--list") {
        if !flag("--ignored") {
            println!("load: test");
        }
        return ExitCode::SUCCESS;
    }
    let mut words = args.iter().filter(|arg| !arg.starts_with('-')).peekable();
    if flag("--ignored") || (words.peek().is_some() && !words.any(|word| "load".contains(word.as_str()))) {
        return ExitCode::SUCCESS;
    }
    match run::run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
