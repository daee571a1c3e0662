//! Help: the short page without a command, and `help [COMMAND]`.

use clap::CommandFactory;

use crate::cli::args::{Cli, HelpArgs};
use crate::cli::context::Context;
use crate::cli::failure::Failure;

/// What is shown without a command.
const SHORT: &str = "clmgr keeps programs running.

  clmgr start            the apps of ./ecosystem.toml
  clmgr start PROGRAM    one program
  clmgr status           what runs
  clmgr logs             what it says
  clmgr init             writes an ecosystem.toml for this folder
  clmgr --help           all commands";

/// The short page.
pub(crate) fn short(context: &mut Context) -> Result<(), Failure> {
    context.ui.line(SHORT)
}

pub(crate) fn run(args: &HelpArgs, context: &mut Context) -> Result<(), Failure> {
    let mut command = Cli::command();
    command.build();
    let text = match &args.command {
        None => command.render_long_help(),
        Some(name) => command
            .find_subcommand_mut(name)
            .ok_or_else(|| Failure::usage(format!("there is no command {name:?}")).hint("clmgr help lists all"))?
            .render_long_help(),
    };
    let text = if context.ui.is_coloured() {
        text.ansi().to_string()
    } else {
        text.to_string()
    };
    context.ui.line(text.trim_end())
}
