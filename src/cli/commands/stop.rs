//! Stops apps or single instances. They stay known, and stay stopped after a reboot.

use crate::api::routes;
use crate::cli::args::Targets;
use crate::cli::connect::Daemon;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::{commands, report};

pub(crate) fn run(args: &Targets, context: &mut Context) -> Result<(), Failure> {
    let request = commands::request(&args.targets)?;
    let watched = request.targets.clone();
    let reply = Daemon::start()?.change_watched(routes::STOP, request, &watched)?;
    report::done(context, &reply)
}
