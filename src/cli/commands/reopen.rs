//! Opens log files anew.

use crate::api::routes;
use crate::cli::args::OptionalTargets;
use crate::cli::connect::Daemon;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::{commands, report};

/// For the help text.
pub const EXAMPLES: &str = "Examples:
  clmgr reopen                           # the logs of all apps
  clmgr reopen api
  kill -USR2 $(systemctl show -P MainPID clmgr)  # the same";

pub(crate) fn run(args: &OptionalTargets, context: &mut Context) -> Result<(), Failure> {
    let all = ["all".to_owned()];
    let words = if args.targets.is_empty() {
        &all
    } else {
        args.targets.as_slice()
    };
    let request = commands::request(words)?;
    let reply = Daemon::to_be_asked()?.change(routes::REOPEN, request)?;
    report::done(context, &reply)
}
