//! Asks instances to do an action that they announced over their IPC channel.

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use serde_json::Value;

use crate::api::routes;
use crate::api::trigger::{PATIENCE_MS, TriggerRequest};
use crate::cli::connect::Daemon;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::{complete, report, targets};
use crate::model::duration::Millis;

/// For the help text.
pub const EXAMPLES: &str = "Examples:
  clmgr trigger api drain
  clmgr trigger api:0 log-level debug
  clmgr trigger api report --timeout 30s --json

clmgr describe api lists the actions. They are those of @pm2/io: io.action('drain', (reply) => reply('done'));
the app needs an IPC channel (ipc = true).";

/// `trigger`.
#[derive(Clone, Debug, Args)]
pub struct TriggerArgs {
    /// A name, name:slot, an id, a namespace, /regex/, all, or a file
    #[arg(value_name = "TARGET", add = ArgValueCompleter::new(complete::targets))]
    pub target: String,
    /// The action's name
    #[arg(value_name = "ACTION")]
    pub action: String,
    /// Handed to the action as a string
    #[arg(value_name = "PARAMS", allow_hyphen_values = true)]
    pub params: Option<String>,
    /// How long to wait for the answers
    #[arg(long, value_name = "TIME", default_value_t = Millis(PATIENCE_MS))]
    pub timeout: Millis,
}

pub(crate) fn run(args: &TriggerArgs, context: &mut Context) -> Result<(), Failure> {
    let request = TriggerRequest {
        targets: targets::resolve(std::slice::from_ref(&args.target))?,
        action: args.action.clone(),
        params: args.params.clone().map(Value::from),
        timeout_ms: args.timeout.0,
    };
    let reply = Daemon::to_be_asked()?.change(routes::TRIGGER, request)?;
    report::done(context, &reply)
}
