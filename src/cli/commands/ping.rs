//! Says whether the daemon answers.

use crate::api::routes;
use crate::api::status::Ping;
use crate::cli::connect::Daemon;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::render::human;
use crate::client::version_note;

pub(crate) fn run(context: &mut Context) -> Result<(), Failure> {
    let Some(mut daemon) = Daemon::running_or_restarting()? else {
        return Err(not_running());
    };
    let ping: Ping = daemon.get(routes::PING, &[])?;
    if context.json {
        context.ui.json(&ping)?;
    } else {
        context.ui.line(format_args!(
            "clmgr {} answers: daemon {}, keeper {}{}, up {}, state in {}",
            ping.version,
            ping.pid,
            ping.keeper_pid,
            if ping.keeper_version.is_empty() || ping.keeper_version == ping.version {
                String::new()
            } else {
                format!(" (clmgr {})", ping.keeper_version)
            },
            human::uptime(ping.uptime_ms),
            ping.home,
        ))?;
    }
    note_other_version(&ping, context);
    Ok(())
}

/// The daemon does not run, and this command does not start it.
pub(crate) fn not_running() -> Failure {
    Failure::unreachable("clmgr does not run here")
        .hint("clmgr start, or clmgr resurrect, brings it and the saved apps back")
}

/// Tells a person that the daemon is of another version. Failing to ask is no failure.
pub(crate) fn compare_versions(daemon: &mut Daemon, context: &mut Context) {
    if let Ok(ping) = daemon.get::<Ping>(routes::PING, &[]) {
        note_other_version(&ping, context);
    }
}

fn note_other_version(ping: &Ping, context: &mut Context) {
    if let Some(note) = version_note(ping) {
        context.ui.warning(&note);
        context
            .ui
            .hint("clmgr upgrade replaces it by this version; no app is touched");
    }
}
