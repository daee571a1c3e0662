//! Shows everything about apps.

use crate::api::routes;
use crate::api::status::DescribeReply;
use crate::cli::args::Targets;
use crate::cli::connect::Daemon;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::render::describe;
use crate::cli::targets;

/// For the help text.
pub const EXAMPLES: &str = "Examples:
  clmgr describe api
  clmgr show api worker
  clmgr describe api --json";

pub(crate) fn run(args: &Targets, context: &mut Context) -> Result<(), Failure> {
    let query = targets::query(&targets::resolve(&args.targets)?);
    let reply: DescribeReply = Daemon::to_be_asked()?.get(routes::DESCRIBE, &query)?;
    if context.json {
        return context.ui.json(&reply);
    }
    let (width, coloured) = (context.ui.width(), context.ui.is_coloured());
    for (at, app) in reply.apps.iter().enumerate() {
        if at > 0 {
            context.ui.line("")?;
        }
        context.ui.line(describe::page(app, width, coloured))?;
    }
    Ok(())
}
