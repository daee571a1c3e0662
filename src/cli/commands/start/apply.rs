//! Sends apps to the daemon.

use std::path::Path;

use crate::api::operation::{ApplyRequest, OperationReply, Outcome};
use crate::api::routes;
use crate::cli::connect::Daemon;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::load::{self, Loaded};
use crate::model::target::Target;

/// Makes loaded apps known and running.
pub(crate) fn loaded(
    loaded: Loaded,
    update_env: bool,
    no_rollback: bool,
    context: &mut Context,
) -> Result<OperationReply, Failure> {
    if let Some(warnings) = &loaded.warnings {
        context.ui.note(warnings);
    }
    let watched: Vec<Target> = loaded
        .apps
        .iter()
        .map(|app| Target::Named(app.name.to_string()))
        .collect();
    let request = ApplyRequest {
        env_base: loaded.env_base,
        apps: loaded.apps,
        update_env,
        no_rollback,
    };
    Daemon::start()?.change_watched(routes::APPLY, request, &watched)
}

/// Makes the apps of some files known and running, file by file.
pub(crate) fn files(
    files: &[String],
    profile: Option<&str>,
    update_env: bool,
    no_rollback: bool,
    context: &mut Context,
) -> Result<OperationReply, Failure> {
    let options = load::Options {
        profile: profile.map(str::to_owned),
        only: Vec::new(),
    };
    let mut all = OperationReply::default();
    for file in files {
        let reply =
            load::file(Path::new(file), &options).and_then(|apps| loaded(apps, update_env, no_rollback, context));
        all.results
            .extend(reply.map_err(|failure| failure.after(&all))?.results);
    }
    Ok(all)
}

/// Takes the apps out of an answer that were as wanted already, as targets for the next request.
pub(crate) fn take_unchanged(reply: &mut OperationReply) -> Vec<Target> {
    let changed: Vec<_> = reply
        .results
        .iter()
        .filter(|result| result.outcome != Outcome::Unchanged)
        .map(|result| result.id)
        .collect();
    let mut targets = Vec::new();
    let mut seen = Vec::new();
    reply.results.retain(|result| {
        let unchanged = !changed.contains(&result.id);
        if unchanged && !seen.contains(&result.id) {
            seen.push(result.id);
            targets.push(Target::Id(result.id));
        }
        !unchanged
    });
    targets
}

#[cfg(test)]
mod tests {
    use super::take_unchanged;
    use crate::api::operation::{InstanceResult, OperationReply, Outcome};
    use crate::model::names::AppId;

    #[test]
    fn only_wholly_unchanged_apps_go_on() {
        let result = |id: u32, slot: u32, outcome: Outcome| InstanceResult {
            id: AppId(id),
            app: format!("app-{id}").parse().unwrap(),
            slot: Some(slot),
            pid: None,
            outcome,
            state: None,
            message: None,
            stderr: Vec::new(),
            reply: None,
        };
        let mut reply = OperationReply {
            results: vec![
                result(1, 0, Outcome::Unchanged),
                result(1, 1, Outcome::Unchanged),
                result(2, 0, Outcome::Unchanged),
                result(2, 1, Outcome::Started),
                result(3, 0, Outcome::Reloaded),
            ],
        };
        let again: Vec<String> = take_unchanged(&mut reply).iter().map(ToString::to_string).collect();
        assert_eq!(again, ["1"]);
        assert_eq!(
            reply.results.iter().map(|result| result.id.0).collect::<Vec<_>>(),
            [2, 2, 3]
        );
    }
}
