//! What can be typed. The arguments of one verb stand in `commands/<verb>.rs`; every help text ends with
//! examples, and a test parses each of them.

use clap::{Args, Parser, Subcommand};
use clap_complete::engine::ArgValueCompleter;

use crate::cli::commands::{
    completions, delete, describe, doctor, env, events, flush, init, kill, logs, man, pid, reload, reopen, restart,
    runtime, scale, send, serve, signal, start, startup, status, trigger, unstartup, upgrade, validate,
};
use crate::cli::complete;
use crate::cli::ui::Colour;
use crate::model::version::version;

/// The command line.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "clmgr",
    version = version(),
    about = "Keeps programs running: starts, scales, reloads, logs, and brings them back after a reboot",
    disable_help_subcommand = true,
    disable_version_flag = true,
    max_term_width = 100,
    after_help = "Examples:
  clmgr start                            # the apps of ./ecosystem.toml
  clmgr start server.js -i 4 --name api  # four instances of one program
  clmgr status
  clmgr logs api
  clmgr reload api                       # a new generation, no failed request

Targets: a name, name:slot, an id, a namespace, /regex/, all, or a file (its apps); several at once.
Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 conflict, 5 daemon not reachable, 6 not allowed."
)]
pub struct Cli {
    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// When to use colours
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        hide_possible_values = true,
        hide = true
    )]
    pub color: Colour,
    /// Print the version
    #[arg(long, short = 'V', short_alias = 'v', action = clap::ArgAction::Version)]
    pub version: (),
    /// What to do
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The verbs.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Start apps: of a file, known ones, or any program
    #[command(after_help = start::EXAMPLES)]
    Start(Box<start::StartArgs>),
    /// Run in the foreground, as the command of a container
    #[command(after_help = runtime::EXAMPLES)]
    Runtime(Box<runtime::RuntimeArgs>),
    /// Stop apps or single instances; they stay known, and stopped after a reboot
    #[command(after_help = "Examples:
  clmgr stop api
  clmgr stop api:2 worker
  clmgr stop all --json")]
    Stop(Targets),
    /// Stop and start
    #[command(after_help = restart::EXAMPLES)]
    Restart(restart::RestartArgs),
    /// Replace the running generation, one instance after the other, without failing a request
    #[command(after_help = reload::EXAMPLES)]
    Reload(reload::ReloadArgs),
    /// Stop apps and forget them
    #[command(visible_aliases = ["del", "rm"], after_help = delete::EXAMPLES)]
    Delete(Targets),
    /// Change the number of instances
    #[command(after_help = scale::EXAMPLES)]
    Scale(scale::ScaleArgs),
    /// Show apps and instances
    #[command(visible_aliases = ["list", "ls", "ps"], after_help = status::EXAMPLES)]
    Status(status::StatusArgs),
    /// Show everything about apps: what they are, why they failed, where their logs are
    #[command(visible_alias = "show", after_help = describe::EXAMPLES)]
    Describe(Targets),
    /// Show the environment of instances, values masked
    #[command(after_help = env::EXAMPLES)]
    Env(env::EnvArgs),
    /// Show log lines; follows on a terminal
    #[command(visible_alias = "log", after_help = logs::EXAMPLES)]
    Logs(logs::LogsArgs),
    /// Empty log files
    #[command(after_help = flush::EXAMPLES)]
    Flush(OptionalTargets),
    /// Open log files anew after somebody else has renamed them: for an external logrotate
    #[command(alias = "reloadLogs", after_help = reopen::EXAMPLES)]
    Reopen(OptionalTargets),
    /// Send a signal to instances
    #[command(after_help = signal::EXAMPLES)]
    Signal(signal::SignalArgs),
    /// Write a line to the standard input of instances
    #[command(after_help = send::EXAMPLES)]
    Send(send::SendArgs),
    /// Ask instances to do an action of theirs, and print their answers
    #[command(after_help = trigger::EXAMPLES)]
    Trigger(trigger::TriggerArgs),
    /// Set restart counters to zero and close open circuits
    #[command(after_help = "Examples:
  clmgr reset api
  clmgr reset all")]
    Reset(Targets),
    /// Show what happened
    #[command(after_help = events::EXAMPLES)]
    Events(events::EventsArgs),
    /// Print process ids, one a line
    #[command(after_help = pid::EXAMPLES)]
    Pid(OptionalTargets),
    /// Say whether the daemon answers
    #[command(after_help = "Examples:
  clmgr ping
  clmgr ping --json")]
    Ping,
    /// Say what is in order and what is not, each with the next step; changes nothing
    #[command(after_help = doctor::EXAMPLES)]
    Doctor,
    /// Replace the running manager by another build; no app is touched
    #[command(after_help = upgrade::EXAMPLES)]
    Upgrade(upgrade::UpgradeArgs),
    /// Check that the state is on disk (it always is; kept for habit)
    #[command(
        visible_alias = "dump",
        after_help = "Examples:
  clmgr save"
    )]
    Save,
    /// Bring the saved apps back (clmgr does so by itself; kept for habit)
    #[command(after_help = "Examples:
  clmgr resurrect")]
    Resurrect,
    /// Stop all apps, the daemon and the keeper; the next start brings the apps back
    #[command(after_help = kill::EXAMPLES)]
    Kill,
    /// Have clmgr and its apps started with the machine
    #[command(after_help = startup::EXAMPLES)]
    Startup(startup::StartupArgs),
    /// Have clmgr not started with the machine any more
    #[command(after_help = unstartup::EXAMPLES)]
    Unstartup(unstartup::UnstartupArgs),
    /// Check an ecosystem file without starting anything
    #[command(after_help = validate::EXAMPLES)]
    Validate(validate::ValidateArgs),
    /// Write an ecosystem.toml for this folder
    #[command(after_help = init::EXAMPLES)]
    Init(init::InitArgs),
    /// Serve the files of a folder over HTTP
    #[command(after_help = serve::EXAMPLES)]
    Serve(serve::ServeArgs),
    /// Print the JSON schema of ecosystem.toml
    #[command(after_help = "Examples:
  clmgr schema > ecosystem.schema.json")]
    Schema,
    /// Print a completion script for a shell
    #[command(after_help = completions::EXAMPLES)]
    Completions(completions::CompletionsArgs),
    /// Print a manual page, or write all of them to a folder
    #[command(after_help = man::EXAMPLES)]
    Man(man::ManArgs),
    /// Show help
    #[command(after_help = "Examples:
  clmgr help
  clmgr help start")]
    Help(HelpArgs),
}

/// `help`.
#[derive(Clone, Debug, Args)]
pub struct HelpArgs {
    /// About this command
    #[arg(value_name = "COMMAND")]
    pub command: Option<String>,
}

/// At least one target.
#[derive(Clone, Debug, Args)]
pub struct Targets {
    /// A name, name:slot, an id, a namespace, /regex/, all, or a file
    #[arg(value_name = "TARGET", required = true, add = ArgValueCompleter::new(complete::targets))]
    pub targets: Vec<String>,
}

/// Any number of targets; none means all apps.
#[derive(Clone, Debug, Args)]
pub struct OptionalTargets {
    /// A name, name:slot, an id, a namespace, /regex/, all, or a file; all apps if left out
    #[arg(value_name = "TARGET", add = ArgValueCompleter::new(complete::targets))]
    pub targets: Vec<String>,
}

#[cfg(test)]
#[path = "args_tests.rs"]
mod tests;
