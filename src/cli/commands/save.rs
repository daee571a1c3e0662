//! Kept for habit: the state is saved before any command answers.

use crate::api::operation::OperationReply;
use crate::api::routes;
use crate::cli::connect::Daemon;
use crate::cli::context::Context;
use crate::cli::failure::Failure;

pub(crate) fn run(context: &mut Context) -> Result<(), Failure> {
    let reply: OperationReply = Daemon::to_be_asked()?.act(routes::SAVE)?;
    if context.json {
        return context.ui.json(&reply);
    }
    context
        .ui
        .line("saved; clmgr saves every change by itself, so this is never needed")
}
