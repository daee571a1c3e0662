//! What must hold after every step.

use std::sync::Arc;

use super::world::{Row, World};
use crate::supervise::app::App;

impl World {
    /// What must hold after every step.
    pub(super) fn check(&self) {
        for (id, app) in &self.core.apps {
            check_app(app, self.down);
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
