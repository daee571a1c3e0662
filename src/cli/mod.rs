//! The command line: reads arguments, asks the daemon, and writes for people or (`--json`) programs.
//!
//! `args` says what can be typed, `commands/<verb>` does it, `render` turns answers into text, and `ui`
//! alone writes to the terminal. `connect` and `launch`, `load` and `follow` are where the client, the
//! config reader and the log reader are used.

use std::ffi::OsString;

pub mod args;
pub mod boot;
pub mod commands;
pub mod complete;
mod connect;
mod context;
pub mod exit;
pub mod failure;
mod follow;
mod interrupt;
mod launch;
mod load;
mod progress;
mod quick;
pub mod render;
mod report;
mod targets;
pub mod ui;
mod world;

use clap::Parser;
use clap::error::ErrorKind as ClapKind;

use context::Context;
use ui::Ui;

/// Runs the command line and returns the exit code (see [`exit`]).
#[must_use]
pub fn run(args: Vec<OsString>) -> u8 {
    if let Some(quick) = quick::recognize(&args) {
        return finish(Context::new(Ui::stdio(ui::Colour::Auto), quick.json()), |context| {
            quick.run(context)
        });
    }
    if complete::requested() {
        return complete::answer(args);
    }
    let cli = match args::Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let context = Context::new(Ui::stdio(cli.color), cli.json);
    finish(context, |context| match &cli.command {
        Some(command) => commands::run(command, context),
        None => commands::help::short(context),
    })
}

/// Runs one command and says how it ended.
fn finish(mut context: Context, command: impl FnOnce(&mut Context) -> Result<(), failure::Failure>) -> u8 {
    let result = command(&mut context).and_then(|()| context.ui.flush());
    match result {
        Ok(()) => exit::OK,
        Err(failure) => report::failure(&mut context, &failure),
    }
}

/// `--help` and `--version` are answers; everything else is a mistake.
fn usage(error: &clap::Error) -> u8 {
    let unread = error
        .print()
        .is_err_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe);
    if unread || matches!(error.kind(), ClapKind::DisplayHelp | ClapKind::DisplayVersion) {
        exit::OK
    } else {
        exit::USAGE
    }
}
