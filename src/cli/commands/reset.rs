//! Sets restart counters to zero and closes open circuits.

use crate::api::routes;
use crate::cli::args::Targets;
use crate::cli::connect::Daemon;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::{commands, report};

pub(crate) fn run(args: &Targets, context: &mut Context) -> Result<(), Failure> {
    let request = commands::request(&args.targets)?;
    let reply = Daemon::start()?.change(routes::RESET, request)?;
    report::done(context, &reply)
}
