//! Planning `start FILE`: what becomes of the apps a file describes.

use std::sync::Arc;

use crate::model::outcome::{ErrorBody, ErrorKind};
use crate::model::spec::AppSpec;
use crate::supervise::app::App;
use crate::supervise::core::Core;
use crate::supervise::output::Change;
use crate::supervise::plan::{Plan, Planned, Step, refuse};

impl Core {
    /// Makes new apps, and brings known ones to their new form: by a rollout if anything of them serves.
    pub(super) fn plan_apply(&mut self, specs: &[AppSpec], update_env: bool, no_rollback: bool) -> Planned {
        let mut plan = Plan::default();
        for spec in specs {
            if let Some(app) = self.named(&spec.name) {
                plan_known(app, spec, update_env, no_rollback, &mut plan)?;
                continue;
            }
            let id = self.take_app_id();
            let spec = Arc::new(spec.clone());
            plan.changes.push(Change::Put {
                id,
                spec: Arc::clone(&spec),
                desired: spec.instances,
                wanted: true,
                held: Vec::new(),
            });
            plan.steps.push(Step::Create(id, spec));
        }
        Ok(plan)
    }
}

/// An app of the file that is known already.
fn plan_known(
    app: &App,
    spec: &AppSpec,
    update_env: bool,
    no_rollback: bool,
    plan: &mut Plan,
) -> Result<(), Box<ErrorBody>> {
    if app.deleting {
        return refuse(
            ErrorKind::Conflict,
            format!("{} is being deleted", app.name()),
            "try again when it is gone",
        );
    }
    let id = app.id;
    let old = app.spec();
    let mut spec = spec.clone();
    if !update_env {
        spec.env_base = Arc::clone(&old.env_base);
    }
    let desired = if spec.instances == old.instances {
        app.desired
    } else {
        spec.instances
    };
    let same_but_count = AppSpec {
        instances: old.instances,
        ..spec.clone()
    } == **old;
    let count_changed = spec.instances != old.instances;
    let spec = Arc::new(spec);
    if let Some(rollout) = app.user_rollout() {
        if app.specs.get(&rollout.to).is_some_and(|to| **to == *spec) && !rollout.rolling_back {
            plan.steps.push(Step::Join(id, spec));
            return Ok(());
        }
        return refuse(
            ErrorKind::Conflict,
            format!("{} is being reloaded", app.name()),
            format!("wait for it, or stop it with: clmgr stop {}", app.name()),
        );
    }
    let want = Change::Want {
        id,
        desired,
        wanted: true,
        held: Vec::new(),
    };
    if !same_but_count && app.is_serving() {
        let reshaped = desired != app.desired || !app.held.is_empty();
        let shape = reshaped.then(|| (desired, Vec::new()));
        plan.steps.push(Step::Rollout(id, spec, no_rollback, shape));
        return Ok(());
    }
    if !same_but_count || count_changed {
        plan.changes.push(Change::Put {
            id,
            spec: Arc::clone(&spec),
            desired,
            wanted: true,
            held: Vec::new(),
        });
        plan.steps.push(Step::Respec(id, spec, desired));
    } else if !app.wanted || !app.held.is_empty() {
        plan.changes.push(want);
    }
    plan.steps.push(Step::Up(id, (0..desired).collect()));
    Ok(())
}
