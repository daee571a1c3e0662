//! Shows the environment of instances.

use clap::Args;
use clap_complete::engine::ArgValueCompleter;

use crate::api::routes;
use crate::api::status::EnvReply;
use crate::cli::connect::Daemon;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::render::results::safe;
use crate::cli::ui::BOLD;
use crate::cli::{complete, targets};

/// For the help text.
pub const EXAMPLES: &str = "Examples:
  clmgr env api                          # values are masked
  clmgr env api:0 --reveal";

/// `env`.
#[derive(Clone, Debug, Args)]
pub struct EnvArgs {
    /// A name, name:slot, an id, a namespace, /regex/, all, or a file
    #[arg(value_name = "TARGET", required = true, add = ArgValueCompleter::new(complete::targets))]
    pub targets: Vec<String>,
    /// Show the values
    #[arg(long)]
    pub reveal: bool,
}

pub(crate) fn run(args: &EnvArgs, context: &mut Context) -> Result<(), Failure> {
    let mut query = targets::query(&targets::resolve(&args.targets)?);
    if args.reveal {
        query.push(("reveal", "true".to_owned()));
    }
    let replies: Vec<EnvReply> = Daemon::to_be_asked()?.get(routes::ENV, &query)?;
    if context.json {
        return context.ui.json(&replies);
    }
    for (at, reply) in replies.iter().enumerate() {
        if replies.len() > 1 {
            let gap = if at > 0 { "\n" } else { "" };
            context
                .ui
                .line(format_args!("{gap}{BOLD}{}:{}{BOLD:#}", reply.app, reply.slot))?;
        }
        for (name, value) in &reply.env {
            context.ui.line(format_args!("{name}={}", safe(&value.to_text())))?;
        }
    }
    Ok(())
}
