//! Kept for habit: saved apps come back as soon as clmgr runs.

use crate::cli::commands::status::{self, StatusArgs};
use crate::cli::context::Context;
use crate::cli::failure::Failure;

pub(crate) fn run(context: &mut Context) -> Result<(), Failure> {
    if !context.json {
        context
            .ui
            .line("saved apps come back by themselves as soon as clmgr runs:\n")?;
    }
    status::run(&StatusArgs { targets: Vec::new() }, context)
}
