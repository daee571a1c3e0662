//! One verb per file: its arguments, its examples, and what it does.

pub mod completions;
pub mod delete;
pub mod describe;
pub mod doctor;
pub mod env;
pub mod events;
pub mod flush;
pub mod help;
pub mod init;
pub mod kill;
pub mod logs;
pub mod man;
pub mod pid;
pub mod ping;
pub mod reload;
pub mod reopen;
pub mod reset;
pub mod restart;
pub mod resurrect;
pub mod runtime;
pub mod save;
pub mod scale;
pub mod schema;
pub mod send;
pub mod serve;
pub mod signal;
pub mod start;
pub mod startup;
pub mod status;
pub mod stop;
pub mod trigger;
pub mod unstartup;
pub mod upgrade;
pub mod validate;

use crate::api::operation::TargetRequest;
use crate::cli::args::Command;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::targets;

/// Does what was typed.
pub(crate) fn run(command: &Command, context: &mut Context) -> Result<(), Failure> {
    match command {
        Command::Start(args) => start::run(args, context),
        Command::Runtime(args) => runtime::run(args, context),
        Command::Stop(args) => stop::run(args, context),
        Command::Restart(args) => restart::run(args, context),
        Command::Reload(args) => reload::run(args, context),
        Command::Delete(args) => delete::run(args, context),
        Command::Scale(args) => scale::run(args, context),
        Command::Status(args) => status::run(args, context),
        Command::Describe(args) => describe::run(args, context),
        Command::Env(args) => env::run(args, context),
        Command::Logs(args) => logs::run(args, context),
        Command::Flush(args) => flush::run(args, context),
        Command::Reopen(args) => reopen::run(args, context),
        Command::Signal(args) => signal::run(args, context),
        Command::Send(args) => send::run(args, context),
        Command::Trigger(args) => trigger::run(args, context),
        Command::Reset(args) => reset::run(args, context),
        Command::Events(args) => events::run(args, context),
        Command::Pid(args) => pid::run(args, context),
        Command::Upgrade(args) => upgrade::run(args, context),
        Command::Ping => ping::run(context),
        Command::Doctor => doctor::run(context),
        Command::Save => save::run(context),
        Command::Resurrect => resurrect::run(context),
        Command::Kill => kill::run(context),
        Command::Startup(args) => startup::run(args, context),
        Command::Unstartup(args) => unstartup::run(args, context),
        Command::Validate(args) => validate::run(args, context),
        Command::Init(args) => init::run(args, context),
        Command::Serve(args) => serve::run(args, context),
        Command::Schema => schema::run(context),
        Command::Completions(args) => completions::run(args, context),
        Command::Man(args) => man::run(args, context),
        Command::Help(args) => help::run(args, context),
    }
}

/// A request about `words` and nothing more.
pub(crate) fn request(words: &[String]) -> Result<TargetRequest, Failure> {
    Ok(TargetRequest {
        targets: targets::resolve(words)?,
        update_env: None,
        no_rollback: false,
    })
}
