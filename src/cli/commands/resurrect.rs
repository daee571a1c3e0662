//! Starts clmgr where it does not run; saved apps come back by themselves then.

use crate::cli::commands::status::{self, StatusArgs};
use crate::cli::connect::Daemon;
use crate::cli::context::Context;
use crate::cli::failure::Failure;

pub(crate) fn run(context: &mut Context) -> Result<(), Failure> {
    drop(Daemon::start()?);
    if !context.json {
        context
            .ui
            .line("saved apps come back by themselves as soon as clmgr runs:\n")?;
    }
    status::run(&StatusArgs { targets: Vec::new() }, context)
}
