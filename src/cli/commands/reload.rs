//! Replaces the running generation. Of a file: takes over what changed in it, and reloads the rest.

use std::sync::Arc;

use clap::Args;
use clap_complete::engine::ArgValueCompleter;

use crate::api::operation::TargetRequest;
use crate::api::routes;
use crate::cli::commands::start::apply;
use crate::cli::connect::Daemon;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::{complete, report, targets, world};

/// For the help text.
pub const EXAMPLES: &str = "Examples:
  clmgr reload api
  clmgr reload ecosystem.toml            # with what changed in the file
  clmgr reload api --update-env
  clmgr reload api --no-rollback         # keep the new generation even if it fails

If a new instance does not become ready, the old generation keeps serving and the command fails.";

/// `reload`.
#[derive(Clone, Debug, Args)]
pub struct ReloadArgs {
    /// A name, name:slot, an id, a namespace, /regex/, all, or a file
    #[arg(value_name = "TARGET", required = true, add = ArgValueCompleter::new(complete::targets))]
    pub targets: Vec<String>,
    /// Give the apps the environment of this shell
    #[arg(long)]
    pub update_env: bool,
    /// Keep the new generation even if it fails
    #[arg(long)]
    pub no_rollback: bool,
    /// Of a file: add the variables of `env_<PROFILE>`
    #[arg(long, value_name = "PROFILE")]
    pub env: Option<String>,
}

pub(crate) fn run(args: &ReloadArgs, context: &mut Context) -> Result<(), Failure> {
    let (files, words): (Vec<_>, Vec<_>) = args.targets.iter().cloned().partition(|word| targets::is_file(word));
    // What means nothing is found out before anything is done.
    let words = targets::resolve(&words)?;
    let mut reply = apply::files(&files, args.env.as_deref(), args.update_env, args.no_rollback, context)?;
    let mut again = apply::take_unchanged(&mut reply);
    again.extend(words);
    if !again.is_empty() {
        let watched = again.clone();
        let request = TargetRequest {
            targets: again,
            update_env: args.update_env.then(|| Arc::new(world::environment())),
            no_rollback: args.no_rollback,
        };
        let rest = Daemon::start()?.change_watched(routes::RELOAD, request, &watched);
        reply
            .results
            .extend(rest.map_err(|failure| failure.after(&reply))?.results);
    }
    report::done(context, &reply)
}
