//! What must hold after every step.

use std::sync::Arc;

use super::world::{Row, World};
use crate::supervise::app::App;
use crate::supervise::rollout::Purpose;

impl World {
    /// What must hold after every step.
    pub(super) fn check(&self) {
        for (id, app) in &self.core.apps {
            check_app(app, self.down);
            check_service(app);
            for run in app.runs.values() {
                assert_eq!(
                    self.monitored.contains(&run.id),
                    run.is_online() && app.is_monitored(run),
                    "watched as long as it is ready: {run:?}"
                );
            }
            let progress = app.progress(self.now);
            assert_eq!(progress.is_some(), app.rollout.is_some());
            assert!(progress.is_none_or(|progress| progress.done <= progress.total), "{id}");
            for run in app.runs.keys() {
                assert!(
                    self.procs.contains_key(run),
                    "{id}: a run in the books is one of the keeper's"
                );
            }
            if self.committing.is_none() && !app.deleting {
                let row = Row {
                    spec: Arc::clone(app.spec()),
                    desired: app.desired,
                    wanted: app.wanted,
                    held: app.held.iter().copied().collect(),
                };
                assert_eq!(self.disk.get(id), Some(&row), "the disk holds what is in force");
            }
        }
        for (run, proc) in &self.procs {
            let app = self.core.apps.get(&proc.app);
            assert!(
                app.is_some_and(|app| app.runs.contains_key(run)),
                "a process is in the books: {proc:?}"
            );
        }
        if self.down {
            assert!(
                self.procs
                    .keys()
                    .all(|run| self.core.owner(*run).is_some_and(|a| a.runs[run].cause.is_some()))
            );
        }
    }
}

fn check_app(app: &App, down: bool) {
    let surge = app.rollout.as_ref().map_or(0, |rollout| rollout.parallel);
    let running = app
        .runs
        .values()
        .filter(|run| run.exit.is_none() && run.cause.is_none())
        .count();
    assert!(
        running <= (app.desired + surge) as usize,
        "{running} run, {} + {surge} at most",
        app.desired
    );
    for run in app
        .runs
        .values()
        .filter(|run| run.cause.is_none() && run.exit.is_none())
    {
        assert!(
            app.is_wanted(run.slot) || down,
            "what is not wanted is being stopped: {run:?}"
        );
        if app.rollout.is_none() {
            let others = app.runs_in(run.slot).filter(|other| other.cause.is_none()).count();
            assert_eq!(others, 1, "one process per slot");
            assert_eq!(
                app.spec_of(run),
                app.spec(),
                "one generation outside a rollout: {run:?}"
            );
            assert_eq!(
                app.slots[run.slot as usize].current,
                Some(run.id),
                "it is the one in service"
            );
        }
    }
    if app.rollout.is_none() {
        for slot in app.wanted_slots() {
            let state = app.slot_state(slot);
            assert_ne!(
                state,
                crate::model::state::State::Stopped,
                "slot {slot} is wanted and left behind"
            );
        }
    }
}

/// Who serves, and what is replaced without having been asked for.
fn check_service(app: &App) {
    let rotation = app.rotation();
    assert_eq!(
        rotation.is_empty(),
        !app.runs.values().any(|run| run.is_online()),
        "whoever is ready serves, if there is nobody better"
    );
    let ill = |run: &crate::model::names::RunId| app.runs[run].unhealthy.is_some();
    assert!(
        rotation.iter().all(ill) || !rotation.iter().any(ill),
        "the healthy ones, or else the others"
    );
    if app.is_dormant() {
        let running = app.runs.values().find(|run| run.cause.is_none());
        assert!(running.is_none(), "a dormant app has no process: {running:?}");
    }
    let Some(rollout) = &app.rollout else { return };
    if rollout.purpose != Purpose::Reload {
        let busy = rollout.active.len() + rollout.queue.len();
        assert!(busy <= 1, "one at a time: {rollout:?}");
        assert_eq!(rollout.from, rollout.to);
    }
    let begun = u32::try_from(rollout.begun()).unwrap();
    assert!(
        rollout.canary == 0 || rollout.rolling_back || begun <= rollout.canary,
        "canaries first: {rollout:?}"
    );
}
