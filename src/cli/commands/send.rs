//! Writes a line to the standard input of instances.

use clap::Args;
use clap_complete::engine::ArgValueCompleter;

use crate::api::operation::SendRequest;
use crate::api::routes;
use crate::cli::connect::Daemon;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::{complete, report, targets};

/// For the help text.
pub const EXAMPLES: &str = "Examples:
  clmgr send api reload-config
  clmgr send api:0 \"say hello\"";

/// `send`.
#[derive(Clone, Debug, Args)]
pub struct SendArgs {
    /// A name, name:slot, an id, a namespace, /regex/, all, or a file
    #[arg(value_name = "TARGET", add = ArgValueCompleter::new(complete::targets))]
    pub target: String,
    /// The line
    #[arg(value_name = "TEXT", allow_hyphen_values = true)]
    pub text: String,
}

pub(crate) fn run(args: &SendArgs, context: &mut Context) -> Result<(), Failure> {
    let request = SendRequest {
        targets: targets::resolve(std::slice::from_ref(&args.target))?,
        text: args.text.clone(),
    };
    let reply = Daemon::to_be_asked()?.change(routes::SEND, request)?;
    report::done(context, &reply)
}
