//! Sends a signal to instances.

use clap::Args;
use clap_complete::engine::{ArgValueCandidates, ArgValueCompleter};

use crate::api::operation::SignalRequest;
use crate::api::routes;
use crate::cli::connect::Daemon;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::{complete, report, targets};
use crate::model::exit::parse_signal;

/// For the help text.
pub const EXAMPLES: &str = "Examples:
  clmgr signal api HUP
  clmgr signal api:0 SIGUSR2
  clmgr signal all 10";

/// `signal`.
#[derive(Clone, Debug, Args)]
pub struct SignalArgs {
    /// A name, name:slot, an id, a namespace, /regex/, all, or a file
    #[arg(value_name = "TARGET", add = ArgValueCompleter::new(complete::targets))]
    pub target: String,
    /// A name or a number: HUP, SIGUSR2, 10
    #[arg(value_name = "SIGNAL", value_parser = read, add = ArgValueCandidates::new(complete::signals))]
    pub signal: i32,
}

fn read(text: &str) -> Result<i32, String> {
    parse_signal(text).ok_or_else(|| format!("{text:?} is no signal; write HUP, SIGUSR2 or a number from 1 to 64"))
}

pub(crate) fn run(args: &SignalArgs, context: &mut Context) -> Result<(), Failure> {
    let request = SignalRequest {
        targets: targets::resolve(std::slice::from_ref(&args.target))?,
        signal: args.signal,
    };
    let reply = Daemon::to_be_asked()?.change(routes::SIGNAL, request)?;
    report::done(context, &reply)
}
