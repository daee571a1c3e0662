//! Daemon and keeper are replaced and killed at random moments while fifty apps work; afterwards everything is
//! accounted for.
//!
//! `cargo test --test faults` is the short form, `CLMGR_FAULTS=long cargo test --test faults` the long one; see
//! [`settings`]. It prints its seed and a table; what may not happen is told in full, the exit code is not zero
//! then, and the folder stays for a look. Nothing that is measured in time is judged.
//!
//! | file | what |
//! |---|---|
//! | [`fleet`] | the fifty apps |
//! | [`apps`] | what they do: this binary plays them |
//! | [`ledger`] | what they say about themselves |
//! | [`world`] | the home: asking, finding, killing |
//! | [`chaos`] | who is killed when, and what is looked at right after |
//! | [`commands`] | commands that go on meanwhile, and what must be true after each |
//! | [`load`] | HTTP requests that go on meanwhile |
//! | [`events`] | the event log, read again and again |
//! | [`checks`] | what must be true in the end |
//! | [`report`] | the table |

#![expect(
    clippy::disallowed_methods,
    reason = "a test writes files; the program has no such excuse"
)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the table is the product")]
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a reader of events names those it looks for"
)]

mod apps;
mod chaos;
mod checks;
mod commands;
mod events;
mod fleet;
mod ledger;
mod load;
mod random;
mod report;
mod run;
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
            println!("faults: test");
        }
        return ExitCode::SUCCESS;
    }
    let mut words = args.iter().filter(|arg| !arg.starts_with('-')).peekable();
    if flag("--ignored") || (words.peek().is_some() && !words.any(|word| "faults".contains(word.as_str()))) {
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
