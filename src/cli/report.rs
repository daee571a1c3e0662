//! What the user reads after a command that changed something, and when a command failed.

use crate::api::operation::OperationReply;
use crate::api::routes;
use crate::api::status::StatusReply;
use crate::cli::commands::ping;
use crate::cli::connect::Daemon;
use crate::cli::context::Context;
use crate::cli::exit;
use crate::cli::failure::Failure;
use crate::cli::render::{results, table};
use crate::config::closest;

/// Shows what was done: JSON, or one line an app.
pub(crate) fn done(context: &mut Context, reply: &OperationReply) -> Result<(), Failure> {
    if context.json {
        return context.ui.json(reply);
    }
    for line in results::lines(&reply.results) {
        context.ui.line(line)?;
    }
    Ok(())
}

/// The same, followed by the status table where somebody looks.
pub(crate) fn done_with_table(context: &mut Context, reply: &OperationReply) -> Result<(), Failure> {
    done(context, reply)?;
    if context.json || !context.ui.is_tty() {
        return Ok(());
    }
    let status: StatusReply = Daemon::start()?.get(routes::STATUS, &[])?;
    let (width, coloured) = (context.ui.width(), context.ui.is_coloured());
    context.ui.line("")?;
    context.ui.line(table::render(&status, width, coloured))
}

/// Says why a command failed and returns its exit code.
pub(crate) fn failure(context: &mut Context, failure: &Failure) -> u8 {
    if failure.is_silent() {
        let _ = context.ui.flush();
        return failure.code;
    }
    let shown = show(context, failure);
    if failure.rendered {
        context.ui.note(&failure.message);
    } else {
        context.ui.error(&failure.message);
    }
    if let Some(name) = meant(failure) {
        context.ui.hint(&format!("did you mean {name}?"));
    }
    for hint in hints(failure) {
        context.ui.hint(&hint);
    }
    if failure.from_daemon
        && let Ok(Some(mut daemon)) = Daemon::running()
    {
        ping::compare_versions(&mut daemon, context);
    }
    // Somebody who closed the pipe still gets the code of the failure.
    drop(shown);
    failure.code
}

fn show(context: &mut Context, failure: &Failure) -> Result<(), Failure> {
    if context.json {
        context.ui.json(&failure.to_json())?;
    } else {
        for line in results::lines(&failure.results) {
            context.ui.line(line)?;
        }
    }
    context.ui.flush()
}

/// The app or namespace that was probably meant by a target that means nothing.
fn meant(failure: &Failure) -> Option<String> {
    if failure.code != exit::NOT_FOUND || !failure.from_daemon {
        return None;
    }
    // The daemon quotes the target. Without a quote there is no suggestion, and nothing is lost.
    let typed = failure.message.split('"').nth(1)?;
    let name = typed.split(':').next().unwrap_or(typed);
    let status: StatusReply = Daemon::running().ok()??.get(routes::STATUS, &[]).ok()?;
    let apps = status.apps.iter().map(|app| app.name.as_str());
    let namespaces = status.apps.iter().map(|app| app.namespace.as_str());
    closest(name, apps.chain(namespaces)).map(str::to_owned)
}

/// The daemon's hints, or where to look next.
fn hints(failure: &Failure) -> Vec<String> {
    if !failure.hints.is_empty() {
        return failure.hints.clone();
    }
    results::first_failed(&failure.results)
        .map(|app| vec![format!("clmgr describe {app}"), format!("clmgr logs {app} --err")])
        .unwrap_or_default()
}
