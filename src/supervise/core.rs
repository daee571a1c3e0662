//! The core itself: one input in, outputs and a next timeout out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::model::duration::Millis;
use crate::model::names::{AppId, AppName, RunId};
use crate::model::outcome::{ErrorBody, ErrorKind};
use crate::model::time::Moment;
use crate::supervise::app::App;
use crate::supervise::cx::Cx;
use crate::supervise::input::{Command, Input, Ticket};
use crate::supervise::output::{Change, Output};
use crate::supervise::plan::{Plan, Step};
use crate::supervise::policy::lost_order::Inheritance;
use crate::supervise::rollout::Failure;

/// What waits to become durable.
#[derive(Debug)]
enum Job {
    Command(Ticket, Command),
    FinishRollout(AppId),
}

/// What is being made durable.
#[derive(Debug)]
enum Committing {
    Plan(Ticket, Vec<Step>),
    Rollout(AppId),
}

/// All apps and what is to be done about them.
#[derive(Debug)]
pub struct Core {
    /// By number.
    pub apps: BTreeMap<AppId, App>,
    pub(super) cx: Cx,
    owners: BTreeMap<RunId, AppId>,
    names: BTreeMap<AppName, AppId>,
    timers: BTreeSet<(Moment, AppId)>,
    timer_of: BTreeMap<AppId, Moment>,
    dirty: BTreeSet<AppId>,
    jobs: VecDeque<Job>,
    committing: Option<Committing>,
    pub(super) next_app: u32,
    shutting_down: bool,
}

impl Core {
    /// An empty core. App and run numbers begin as given and are never used twice.
    #[must_use]
    pub fn new(next_app: u32, first_run: u64) -> Self {
        Self {
            apps: BTreeMap::new(),
            cx: Cx::new(first_run),
            owners: BTreeMap::new(),
            names: BTreeMap::new(),
            timers: BTreeSet::new(),
            timer_of: BTreeMap::new(),
            dirty: BTreeSet::new(),
            jobs: VecDeque::new(),
            committing: None,
            next_app,
            shutting_down: false,
        }
    }

    /// Puts an app in as it was left by an earlier daemon. Nothing is started yet; see [`Core::resume`].
    pub fn insert(&mut self, app: App) {
        self.names.insert(app.name().clone(), app.id);
        for run in app.runs.keys() {
            self.owners.insert(*run, app.id);
            self.cx.skip_run(*run);
        }
        self.next_app = self.next_app.max(app.id.0 + 1);
        self.apps.insert(app.id, app);
    }

    /// There was a daemon before, which may have died: what it ordered last may not be in its records. Called when all
    /// of them are in, before anything is said about their runs.
    pub fn inherit(&mut self, now: Moment) {
        let first_own = RunId(self.cx.peek_run());
        self.cx.inheritance = Some(Inheritance { first_own, since: now });
    }

    /// Begins or continues: starts what should run and does not.
    pub fn resume(&mut self, now: Moment) {
        self.cx.now = now;
        let ids: Vec<AppId> = self.apps.keys().copied().collect();
        for id in ids {
            self.touch(id, App::resume);
        }
        self.queue_finished_rollouts();
    }

    /// Takes an input.
    pub fn handle(&mut self, now: Moment, input: Input) {
        self.cx.now = now;
        match input {
            Input::Command(ticket, command) => {
                self.jobs.push_back(Job::Command(ticket, command));
                self.pump();
            }
            Input::Committed(result) => {
                self.committed(result);
                self.pump();
            }
            Input::Checked(id, result) => self.touch(id, |app, cx| app.on_checked(cx, result)),
            Input::Spawned(run, pid) => self.touch_run(run, |app, cx| app.on_spawned(cx, run, pid)),
            Input::SpawnFailed(run, why) => self.touch_run(run, |app, cx| app.on_spawn_failed(cx, run, &why)),
            Input::SpawnStarved(run, why) => self.touch_run(run, |app, cx| app.on_spawn_starved(cx, run, &why)),
            Input::Ready(run) => self.touch_run(run, |app, cx| app.on_ready(cx, run)),
            Input::Exited(run, exit, stderr) => self.touch_run(run, |app, cx| app.on_exited(cx, run, exit, stderr)),
            Input::LeftBehind(run) => self.touch_run(run, |app, _| app.on_left_behind(run)),
            Input::Swept(run) => self.touch_run(run, |app, cx| app.on_swept(cx, run)),
            Input::PreStopped(run) => self.touch_run(run, |app, cx| app.on_pre_stopped(cx, run)),
            Input::Inspected(run, exclusive) => self.touch_run(run, |app, cx| app.on_inspected(cx, run, exclusive)),
            Input::Memory(run, bytes) => self.touch_run(run, |app, cx| app.on_memory(cx, run, bytes)),
            Input::Healthy(run) => self.touch_run(run, |app, cx| app.on_healthy(cx, run)),
            Input::Unhealthy(run, why) => self.touch_run(run, |app, cx| app.on_unhealthy(cx, run, why)),
            Input::Recycle(run, why) => self.touch_run(run, |app, _| app.on_recycle(run, why)),
            Input::Extend(run, time) => self.touch_run(run, |app, cx| app.on_extend(cx, run, time)),
            Input::Reloading(run) => self.touch_run(run, |app, cx| app.on_reloading(cx, run)),
            Input::Demand(id) => self.touch(id, App::on_demand),
            Input::Idle(id) => self.touch(id, App::on_idle),
            Input::Tick => self.tick(),
        }
        self.queue_finished_rollouts();
    }

    /// The next thing to be done outside.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.cx.out.pop_front()
    }

    /// When [`Input::Tick`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Moment> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Some record changed since it was last taken.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Apps whose record changed since it was last taken.
    pub fn dirty(&self) -> impl Iterator<Item = AppId> + use<'_> {
        self.dirty.iter().copied()
    }

    /// The record of an app was changed from outside.
    pub fn touched(&mut self, id: AppId) {
        self.dirty.insert(id);
    }

    /// Apps whose record changed since the last call.
    pub fn take_dirty(&mut self) -> BTreeSet<AppId> {
        std::mem::take(&mut self.dirty)
    }

    /// The app of a run.
    #[must_use]
    pub fn owner(&self, run: RunId) -> Option<&App> {
        self.owners.get(&run).and_then(|id| self.apps.get(id))
    }

    /// The app of that name.
    #[must_use]
    pub fn named(&self, name: &AppName) -> Option<&App> {
        self.names.get(name).and_then(|id| self.apps.get(id))
    }

    /// True for a run that was to be started and is not to be any more. A `Spawn` of such a run that was not
    /// performed yet need not be: hand in `SpawnFailed` instead, which then blames nobody.
    #[must_use]
    pub fn is_revoked(&self, run: RunId) -> bool {
        self.owner(run)
            .and_then(|app| app.runs.get(&run))
            .is_none_or(|run| run.cause.is_some())
    }

    /// No process is left, and none will be started any more.
    #[must_use]
    pub fn is_shut_down(&self) -> bool {
        self.shutting_down && self.apps.values().all(|app| app.runs.is_empty())
    }

    /// The number the next new app gets.
    pub(super) fn take_app_id(&mut self) -> AppId {
        let id = AppId(self.next_app);
        self.next_app += 1;
        id
    }

    fn tick(&mut self) {
        let now = self.cx.now;
        let due: Vec<AppId> = self
            .timers
            .iter()
            .take_while(|(at, _)| *at <= now)
            .map(|(_, id)| *id)
            .collect();
        // Every app once: what becomes due at once (a kill_timeout of zero) is for the next tick.
        for id in due {
            self.touch(id, App::on_tick);
        }
    }

    fn touch_run(&mut self, run: RunId, act: impl FnOnce(&mut App, &mut Cx)) {
        if let Some(id) = self.owners.get(&run).copied() {
            self.touch(id, act);
        }
    }

    /// Lets an app act, then brings the books up to date: owners, timers, goals, records.
    pub(super) fn touch(&mut self, id: AppId, act: impl FnOnce(&mut App, &mut Cx)) {
        let Some(app) = self.apps.get_mut(&id) else { return };
        let first_new = self.cx.peek_run();
        app.draining = self.shutting_down;
        act(app, &mut self.cx);
        if self.shutting_down {
            app.stop_strays(&mut self.cx);
        }
        app.mend(&mut self.cx);
        app.replace_next(&mut self.cx);
        for run in app.runs.range(RunId(first_new)..).map(|(run, _)| *run) {
            self.owners.insert(run, id);
        }
        self.dirty.insert(id);
        app.settle(&mut self.cx);
        app.rest_when_completed();
        app.prune();
        let next = app.next_deadline();
        if self.timer_of.get(&id).copied() != next {
            if let Some(old) = self.timer_of.remove(&id) {
                self.timers.remove(&(old, id));
            }
            if let Some(at) = next {
                self.timer_of.insert(id, at);
                self.timers.insert((at, id));
            }
        }
        if app.deleting && app.runs.is_empty() {
            self.forget(id);
        }
    }

    fn forget(&mut self, id: AppId) {
        let Some(mut app) = self.apps.remove(&id) else { return };
        self.names.remove(app.name());
        if let Some(at) = self.timer_of.remove(&id) {
            self.timers.remove(&(at, id));
        }
        app.farewell(&mut self.cx);
    }

    /// Remembers how often a run says that it lives.
    pub fn set_watchdog(&mut self, run: RunId, period: Millis) {
        self.touch_run(run, |app, _| {
            if let Some(record) = app.runs.get_mut(&run) {
                record.watchdog = Some(period);
            }
        });
    }

    /// Drops the links of runs that are over. Called with every release.
    pub fn release(&mut self, run: RunId) {
        self.owners.remove(&run);
    }

    /// A living process that no record knows becomes the run in service of a free slot.
    pub fn take_over(&mut self, id: AppId, run: super::run::Run) {
        let (number, slot) = (run.id, run.slot);
        self.cx.skip_run(number);
        self.owners.insert(number, id);
        if let Some(app) = self.apps.get_mut(&id) {
            app.demanded |= app.spec().on_demand.is_some();
            let record = app.slot_mut(slot);
            record.current = Some(number);
            record.newest = Some(number);
            app.runs.insert(number, Box::new(run));
            self.dirty.insert(id);
        }
    }

    /// Makes a new app known.
    pub(super) fn create(&mut self, app: App) {
        self.names.insert(app.name().clone(), app.id);
        self.dirty.insert(app.id);
        self.apps.insert(app.id, app);
    }

    fn queue_finished_rollouts(&mut self) {
        while let Some(id) = self.cx.finished_rollouts.pop_front() {
            self.jobs.push_back(Job::FinishRollout(id));
            self.pump();
        }
    }

    /// Takes jobs as long as none waits for the disk.
    fn pump(&mut self) {
        while self.committing.is_none() {
            let Some(job) = self.jobs.pop_front() else { return };
            match job {
                Job::Command(ticket, command) => self.begin(ticket, &command),
                Job::FinishRollout(id) => self.begin_finish(id),
            }
        }
    }

    fn begin(&mut self, ticket: Ticket, command: &Command) {
        if self.shutting_down {
            let refusal = ErrorBody::new(ErrorKind::Unavailable, "clmgr is shutting down")
                .hint("try again when it is gone; the next command starts it");
            self.cx.emit(Output::Reply(ticket, Err(Box::new(refusal))));
            return;
        }
        match self.plan(command) {
            Err(refusal) => self.cx.emit(Output::Reply(ticket, Err(refusal))),
            Ok(Plan { changes, steps }) if changes.is_empty() => self.execute(ticket, steps),
            Ok(Plan { changes, steps }) => {
                self.committing = Some(Committing::Plan(ticket, steps));
                self.cx.emit(Output::Commit(changes));
            }
        }
    }

    fn begin_finish(&mut self, id: AppId) {
        let Some(app) = self.apps.get(&id) else { return };
        let Some(rollout) = app.rollout.as_ref().filter(|rollout| rollout.finishing) else {
            return;
        };
        if rollout.from == rollout.to && rollout.shape.is_none() {
            self.touch(id, App::rollout_written);
            return;
        }
        let Some(spec) = app.specs.get(&rollout.to).cloned() else {
            return;
        };
        let (desired, held) = rollout
            .shape
            .clone()
            .unwrap_or_else(|| (app.desired, app.held.iter().copied().collect()));
        self.cx.emit(Output::Commit(vec![Change::Put {
            id,
            spec,
            desired,
            wanted: app.wanted,
            held,
        }]));
        self.committing = Some(Committing::Rollout(id));
    }

    fn committed(&mut self, result: Result<(), String>) {
        match (self.committing.take(), result) {
            (Some(Committing::Plan(ticket, steps)), Ok(())) => self.execute(ticket, steps),
            (Some(Committing::Plan(ticket, _)), Err(error)) => {
                let refusal = ErrorBody::new(
                    ErrorKind::Storage,
                    format!("the state could not be written, so nothing was changed: {error}"),
                )
                .hint("clmgr doctor tells what is wrong with the disk; it can be tried again at any time");
                self.cx.emit(Output::Reply(ticket, Err(Box::new(refusal))));
            }
            (Some(Committing::Rollout(id)), Ok(())) => self.touch(id, App::rollout_written),
            (Some(Committing::Rollout(id)), Err(error)) => self.touch(id, |app, cx| {
                let message = format!("the new spec could not be written: {error}");
                app.forbid_keeping();
                app.fail_rollout(
                    cx,
                    Failure {
                        slot: None,
                        message,
                        stderr: Vec::new(),
                    },
                );
            }),
            (None, _) => {}
        }
    }

    /// Begins the end.
    pub(super) fn shut_down(&mut self) {
        self.shutting_down = true;
    }
}

impl App {
    /// Answers every goal that is met.
    fn settle(&mut self, cx: &mut Cx) {
        if self.goals.is_empty() {
            return;
        }
        let goals = std::mem::take(&mut self.goals);
        for goal in goals {
            match self.judge(&goal.kind) {
                Some(line) => {
                    cx.tickets.meet(goal.ticket, vec![line]);
                    if let Some(reply) = cx.tickets.settle(goal.ticket) {
                        cx.emit(reply);
                    }
                }
                None => self.goals.push(goal),
            }
        }
    }
}
