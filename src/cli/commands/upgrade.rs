//! Replaces daemon and keeper by another build while the apps go on.

use std::path::PathBuf;

use clap::Args;

use crate::api::routes;
use crate::api::upgrade::{UpgradeBegun, UpgradeRequest, UpgradeResult, UpgradeStatus};
use crate::cli::commands::ping;
use crate::cli::connect::Daemon;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::model::duration::Millis;
use crate::os::{clock, poll};

/// For the help text.
pub const EXAMPLES: &str = "Examples:
  clmgr upgrade                          # to the version of this command, after a package upgrade
  clmgr upgrade --to /opt/clmgr-0.2/clmgr
  clmgr upgrade --to ./old/clmgr         # back again

The new build must prove itself; if it does not, the one that runs goes on and the command says why.
No app is touched, and interrupting the command does not interrupt the upgrade.";

/// How long the outcome is waited for.
const PATIENCE: Millis = Millis(120_000);
/// Between two questions.
const PAUSE: Millis = Millis(10);

/// `upgrade`.
#[derive(Clone, Debug, Args)]
pub struct UpgradeArgs {
    /// The program to go on with; that of this command if left out
    #[arg(long, value_name = "PATH")]
    pub to: Option<PathBuf>,
}

pub(crate) fn run(args: &UpgradeArgs, context: &mut Context) -> Result<(), Failure> {
    let exe = program(args)?;
    let Some(mut daemon) = Daemon::running_or_restarting()? else {
        return Err(ping::not_running());
    };
    let request = UpgradeRequest {
        exe: exe.into_os_string().into(),
    };
    let begun: UpgradeBegun = daemon.post(routes::UPGRADE, &request)?;
    let result = outcome(&mut daemon, &begun)?;
    if !result.ok {
        let why = result.reason.unwrap_or_else(|| "no reason is known".to_owned());
        return Err(Failure::failed(format!(
            "clmgr {} could not take over: {why}; clmgr {} goes on as daemon {} under keeper {}",
            result.to, result.from, result.daemon_after, result.keeper_pid
        ))
        .hint("no app was touched"));
    }
    if context.json {
        return context.ui.json(&result);
    }
    let same = if result.keeper_pid == begun.keeper_pid {
        "the same process".to_owned()
    } else {
        format!("it was {}, which died", begun.keeper_pid)
    };
    context.ui.line(format_args!(
        "upgraded {} → {}: daemon {} → {}, keeper {} ({same}), {} {} untouched, control gap {} ms",
        result.from,
        result.to,
        begun.daemon_pid,
        result.daemon_after,
        result.keeper_pid,
        result.processes,
        if result.processes == 1 { "process" } else { "processes" },
        result.gap_ms,
    ))
}

/// Absolute, so that it means the same to the daemon.
fn program(args: &UpgradeArgs) -> Result<PathBuf, Failure> {
    let own = || {
        let path = std::env::current_exe()?;
        // A file that was replaced while this command began has another name now.
        path.try_exists()?
            .then_some(path)
            .ok_or(std::io::ErrorKind::NotFound.into())
    };
    match &args.to {
        Some(path) => std::path::absolute(path)
            .map_err(|error| Failure::usage(format!("{} cannot be used: {error}", path.display()))),
        None => own().map_err(|error: std::io::Error| {
            Failure::failed(format!("the file of this program cannot be found: {error}"))
                .hint("name it: clmgr upgrade --to PATH")
        }),
    }
}

/// Asks until it is known; whoever answers.
fn outcome(daemon: &mut Daemon, begun: &UpgradeBegun) -> Result<UpgradeResult, Failure> {
    let until = clock::monotonic().after(PATIENCE);
    while clock::monotonic() < until {
        let status: UpgradeStatus = daemon.get(routes::UPGRADE_OUTCOME, &[])?;
        if let Some(last) = status.last.filter(|last| last.id == begun.id) {
            return Ok(last);
        }
        poll::pause(PAUSE);
    }
    Err(Failure::failed(format!(
        "clmgr {} has not said within {PATIENCE} whether it took over",
        begun.to
    ))
    .hint("clmgr ping shows which version runs; clmgr events what happened"))
}
