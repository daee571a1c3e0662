//! Stops all apps, the daemon and the keeper.

use crate::api::operation::OperationReply;
use crate::api::routes;
use crate::cli::connect::Daemon;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::report;
use crate::model::duration::Millis;
use crate::os::poll;

/// How long keeper and daemon may take to write what is left and end.
const PATIENCE: Millis = Millis(10_000);

/// For the help text.
pub const EXAMPLES: &str = "Examples:
  clmgr kill

What is wanted stays wanted: clmgr resurrect, clmgr start, or any command that
changes something starts the same apps again.
To forget them: clmgr delete all";

pub(crate) fn run(context: &mut Context) -> Result<(), Failure> {
    let Some(mut daemon) = Daemon::running_or_restarting()? else {
        if context.json {
            return context.ui.json(&OperationReply::default());
        }
        return context.ui.line("clmgr does not run here");
    };
    let keeper = daemon.keeper();
    let reply = daemon.act(routes::KILL)?;
    let gone = match keeper {
        Some(keeper) => poll::readable(&keeper, PATIENCE)?,
        None => true,
    };
    report::done(context, &reply)?;
    if !gone {
        return Err(Failure::failed(format!(
            "the apps are stopped, but the keeper has not ended within {PATIENCE}"
        )));
    }
    if context.json {
        return Ok(());
    }
    context
        .ui
        .line("clmgr is stopped; clmgr resurrect brings the apps back")
}
