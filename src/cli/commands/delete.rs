//! Stops apps and forgets them.

use crate::api::routes;
use crate::cli::args::Targets;
use crate::cli::connect::Daemon;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::{commands, report};

/// For the help text.
pub const EXAMPLES: &str = "Examples:
  clmgr delete api
  clmgr delete ecosystem.toml            # every app of the file
  clmgr delete all";

pub(crate) fn run(args: &Targets, context: &mut Context) -> Result<(), Failure> {
    let request = commands::request(&args.targets)?;
    let watched = request.targets.clone();
    let reply = Daemon::start()?.change_watched(routes::DELETE, request, &watched)?;
    report::done(context, &reply)
}
