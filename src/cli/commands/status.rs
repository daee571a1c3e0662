//! Shows apps and instances.

use clap::Args;
use clap_complete::engine::ArgValueCompleter;

use crate::api::routes;
use crate::api::status::StatusReply;
use crate::cli::connect::Daemon;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::render::table;
use crate::cli::{commands, complete, targets};

/// For the help text.
pub const EXAMPLES: &str = "Examples:
  clmgr status
  clmgr ls api worker
  clmgr status --json

After clmgr kill this says that nothing runs, and starts nothing. If clmgr was
killed in another way, it is started again, and takes over what survived.";

/// `status`.
#[derive(Clone, Debug, Args)]
pub struct StatusArgs {
    /// A name, name:slot, an id, a namespace, /regex/, all, or a file; all apps if left out
    #[arg(value_name = "TARGET", add = ArgValueCompleter::new(complete::targets))]
    pub targets: Vec<String>,
}

pub(crate) fn run(args: &StatusArgs, context: &mut Context) -> Result<(), Failure> {
    let query = targets::query(&targets::resolve(&args.targets)?);
    if context.json {
        return print_json(&query, context);
    }
    let Some(mut daemon) = Daemon::unless_ended()? else {
        context.ui.line("clmgr does not run here")?;
        context
            .ui
            .hint("clmgr start, or clmgr resurrect, brings it and the saved apps back");
        return Ok(());
    };
    let status: StatusReply = daemon.get(routes::STATUS, &query)?;
    let (width, coloured) = (context.ui.width(), context.ui.is_coloured());
    context.ui.line(table::render(&status, width, coloured))?;
    if context.ui.is_tty() {
        commands::ping::compare_versions(&mut daemon, context);
    }
    Ok(())
}

/// The daemon's own text, passed through unread.
pub(crate) fn print_json(query: &[(&'static str, String)], context: &mut Context) -> Result<(), Failure> {
    let Some(mut daemon) = Daemon::unless_ended()? else {
        return context.ui.json(&StatusReply { apps: Vec::new() });
    };
    let text = daemon.raw(routes::STATUS, query)?;
    context.ui.bytes(text.as_ref().trim_ascii_end())?;
    context.ui.bytes(b"\n")
}
