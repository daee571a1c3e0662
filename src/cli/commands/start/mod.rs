//! Starts apps: those of a file, known ones, or any program.

pub(crate) mod apply;
mod program;
mod what;

pub(crate) use what::Prepared;

use clap::Args;
use clap_complete::engine::ArgValueCompleter;

use crate::api::operation::OperationReply;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::{complete, report};
use crate::model::duration::Millis;
use crate::model::size::Bytes;

/// For the help text.
pub const EXAMPLES: &str = "Examples:
  clmgr start                            # the apps of ./ecosystem.toml
  clmgr start ecosystem.toml --env production --only api,worker
  clmgr start server.js -i 4 --name api -- --port 3000
  clmgr start server.js -i 4 --listen 0.0.0.0:3000   # server.listen({ fd: 3 })
  clmgr start \"python3 worker.py\" --max-memory-restart 200M
  clmgr start -- ./worker --queue mail   # a program and its arguments
  clmgr start api                        # a known app that is stopped
  clmgr start - < apps.json              # TOML or JSON from standard input
  clmgr start ecosystem.toml --update-env";

/// `start`.
#[derive(Clone, Debug, Default, Args)]
pub struct StartArgs {
    /// A file, known apps, a script or a command; ./ecosystem.toml if left out
    #[arg(value_name = "FILE|APP|PROGRAM", add = ArgValueCompleter::new(complete::startable))]
    pub what: Vec<String>,
    /// Of a file: add the variables of `env_<PROFILE>`
    #[arg(long, value_name = "PROFILE")]
    pub env: Option<String>,
    /// Of a file: only these apps
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Give apps that are known already the environment of this shell
    #[arg(long)]
    pub update_env: bool,
    /// Keep a changed app's new generation even if it fails
    #[arg(long)]
    pub no_rollback: bool,
    /// Of a program: what it is called
    #[arg(long, short, value_name = "NAME", help_heading = "Options for a program")]
    pub name: Option<String>,
    #[command(flatten)]
    pub program: ProgramArgs,
}

/// Options that describe one program.
#[derive(Clone, Debug, Default, PartialEq, Args)]
#[command(next_help_heading = "Options for a program")]
pub struct ProgramArgs {
    /// How many: a number, `max` (CPUs), `-1` (all but one CPU), `50%`
    #[arg(long, short, value_name = "N", allow_negative_numbers = true)]
    pub instances: Option<String>,
    /// The group it belongs to
    #[arg(long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Where it runs
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub cwd: Option<std::path::PathBuf>,
    /// What runs the script; `none` for the script itself
    #[arg(long, value_name = "PROGRAM")]
    pub interpreter: Option<String>,
    /// Replace an instance that holds more memory than this
    #[arg(long, value_name = "SIZE")]
    pub max_memory_restart: Option<Bytes>,
    /// Wait before a restart
    #[arg(long, value_name = "TIME")]
    pub restart_delay: Option<Millis>,
    /// Crashes within the window that end the attempts
    #[arg(long, value_name = "N")]
    pub max_restarts: Option<u32>,
    /// Do not start it again when it ends
    #[arg(long)]
    pub no_autorestart: bool,
    /// Addresses of sockets that clmgr owns.
    #[arg(
        long,
        value_name = "ADDR",
        help = "A socket that clmgr owns and each instance inherits: 0.0.0.0:3000, [::]:80, udp:ADDR, unix:PATH; repeatable"
    )]
    pub listen: Vec<String>,
    /// When it is ready: spawn, listen, ipc, notify or fd:N
    #[arg(long, value_name = "HOW")]
    pub ready: Option<String>,
    /// How long it may take to stop before it is killed
    #[arg(long, value_name = "TIME")]
    pub kill_timeout: Option<Millis>,
    /// Put a time before each line of its log
    #[arg(long)]
    pub time: bool,
    /// The program's own arguments
    #[arg(last = true, value_name = "ARGS", help_heading = "Arguments")]
    pub args: Vec<std::ffi::OsString>,
}

pub(crate) fn run(args: &StartArgs, context: &mut Context) -> Result<(), Failure> {
    let args = &program_first(args);
    let mut reply = OperationReply::default();
    for part in what::prepare(what::sort_out(args)?, args)? {
        let started = part.start(args, context).map_err(|failure| failure.after(&reply))?;
        reply.results.extend(started.results);
    }
    report::done_with_table(context, &reply)
}

/// Reads and checks what the words mean where nothing is known yet: files and programs, ready to be started.
pub(crate) fn fresh(args: &StartArgs) -> Result<Vec<Prepared>, Failure> {
    let args = &program_first(args);
    what::prepare(what::unknown(what::sort_out(args)?)?, args)
}

/// `start -- sleep 100` means the program `sleep`, as with `env` and `nohup`.
fn program_first(args: &StartArgs) -> StartArgs {
    let mut args = args.clone();
    if args.what.is_empty() && !args.program.args.is_empty() {
        args.what
            .push(args.program.args.remove(0).to_string_lossy().into_owned());
    }
    args
}
