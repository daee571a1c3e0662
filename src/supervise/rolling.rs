//! The rollout's decisions: what each step leads to, and what a failure does.

use std::collections::BTreeMap;

use crate::model::balance::ExecMode;
use crate::model::duration::Millis;
use crate::model::event::EventKind;
use crate::model::names::{RunId, Slot};
use crate::model::spec::{AppSpec, Order};
use crate::model::time::Moment;
use crate::supervise::app::App;
use crate::supervise::cx::Cx;
use crate::supervise::output::Output;
use crate::supervise::rollout::{Failure, Purpose, Rollout, Step};
use crate::supervise::run::{Cause, Generation, Phase, Run};

impl App {
    /// Begins to replace what runs in these slots by the generation `to`.
    pub fn begin_rollout(&mut self, cx: &mut Cx, purpose: Purpose, to: Generation, slots: Vec<Slot>, keep: bool) {
        let Some(spec) = self.specs.get(&to).cloned() else {
            return;
        };
        let running = slots
            .iter()
            .find_map(|slot| self.current(*slot))
            .filter(|run| run.is_serving())
            .map(|run| run.id);
        // Sockets that the manager holds are no one instance's: nothing collides.
        let owns = |spec: &AppSpec| !spec.listen.is_empty() || spec.exec_mode == ExecMode::Cluster;
        let shared = owns(&spec) && owns(self.spec());
        let order = spec
            .rollout
            .order
            .or((running.is_none() || shared).then_some(Order::StartFirst));
        if let (None, Some(run)) = (order, running) {
            cx.emit(Output::Inspect(run));
        }
        if purpose == Purpose::Reload {
            cx.event(
                self,
                EventKind::ReloadStarted,
                None,
                None,
                format!("replacing {}", crate::supervise::ending::instances(slots.len())),
            );
        }
        self.rollout = Some(Rollout {
            purpose,
            from: self.generation,
            to,
            inspecting: if order.is_none() { running } else { None },
            order,
            parallel: spec.rollout.parallel.max(1),
            canary: if purpose == Purpose::Reload {
                spec.rollout.canary
            } else {
                0
            },
            watch_until: None,
            only: slots.first().copied().filter(|_| purpose != Purpose::Reload),
            queue: slots.into(),
            active: BTreeMap::new(),
            done: Vec::new(),
            deadline: Some(cx.now.after(spec.rollout.deadline)),
            checking: purpose == Purpose::Reload && !spec.require.is_empty(),
            rolling_back: false,
            finishing: false,
            shape: None,
            keep: keep || !spec.rollout.rollback,
            failure: None,
        });
        if self.rollout.as_ref().is_some_and(|rollout| rollout.checking) {
            self.ask_check(cx);
        }
        self.advance(cx);
    }

    /// The answer to `Inspect`.
    pub fn on_inspected(&mut self, cx: &mut Cx, run: RunId, exclusive: bool) {
        if let Some(rollout) = self.rollout.as_mut().filter(|rollout| rollout.inspecting == Some(run)) {
            rollout.inspecting = None;
            rollout.order = Some(if exclusive { Order::StopFirst } else { Order::StartFirst });
            self.advance(cx);
        }
    }

    /// The answer about the `require` of the generation to come. What it misses, it would not run without, even
    /// where a failing generation is to be kept.
    pub fn on_rollout_checked(&mut self, cx: &mut Cx, result: Result<(), String>) {
        if let Some(rollout) = self.rollout.as_mut() {
            rollout.checking = false;
        }
        match result {
            Ok(()) => self.advance(cx),
            Err(message) => {
                self.forbid_keeping();
                let why = Failure {
                    slot: None,
                    message,
                    stderr: Vec::new(),
                };
                self.fail_rollout(cx, why);
            }
        }
    }

    /// Starts as many steps as may run side by side; ends the rollout when none is left.
    pub fn advance(&mut self, cx: &mut Cx) {
        loop {
            let Some(rollout) = self.rollout.as_mut() else { return };
            let Some(order) = rollout.order else { return };
            if rollout.finishing || rollout.checking {
                return;
            }
            if rollout.queue.is_empty() && rollout.active.is_empty() {
                if rollout.rolling_back {
                    self.end_rollout(cx);
                } else {
                    rollout.finishing = true;
                    rollout.deadline = None;
                    cx.finished_rollouts.push_back(self.id);
                }
                return;
            }
            if rollout.waits_for_canaries() {
                if rollout.done.len() < rollout.canary as usize || rollout.watch_until.is_some() {
                    return;
                }
                let wait = self.specs.get(&rollout.to).map(|spec| spec.rollout.min_healthy);
                if wait.is_some_and(|wait| wait > Millis::ZERO) {
                    rollout.watch_until = wait.map(|wait| cx.now.after(wait));
                    return;
                }
                rollout.canary = 0;
            }
            if rollout.active.len() >= rollout.parallel as usize {
                return;
            }
            // A slot whose last step is not over waits for it.
            let Some(at) = rollout.queue.iter().position(|slot| !rollout.active.contains_key(slot)) else {
                return;
            };
            let Some(slot) = rollout.queue.remove(at) else { return };
            if self.is_wanted(slot) {
                self.begin_step(cx, slot, order);
            }
        }
    }

    fn begin_step(&mut self, cx: &mut Cx, slot: Slot, order: Order) {
        let current = self.slots.get(slot as usize).and_then(|record| record.current);
        match (order, current) {
            (Order::StopFirst, Some(old)) => {
                if let Some(rollout) = self.rollout.as_mut() {
                    rollout.active.insert(slot, Step::Clearing(old));
                }
                self.stop_run(cx, old, Cause::Replaced);
            }
            (Order::StartFirst, _) | (Order::StopFirst, None) => self.start_incoming(cx, slot),
        }
    }

    fn start_incoming(&mut self, cx: &mut Cx, slot: Slot) {
        let Some(goal) = self.rollout.as_ref().map(Rollout::goal) else {
            return;
        };
        let run = self.launch(cx, slot, goal);
        self.slot_mut(slot).incoming = Some(run);
        if let Some(rollout) = self.rollout.as_mut() {
            rollout.active.insert(slot, Step::Proving { run, healthy_at: None });
        }
    }

    /// A run became ready, or was seen to work; perhaps one of ours.
    pub fn rollout_proven(&mut self, cx: &mut Cx, id: RunId) {
        let Some(run) = self.runs.get(&id).filter(|run| run.is_online()) else {
            return;
        };
        let slot = run.slot;
        let Some(proven) = self.proven_at(run) else { return };
        let Some(rollout) = self.rollout.as_mut() else { return };
        if let Some(Step::Proving { run, healthy_at }) = rollout.active.get_mut(&slot)
            && *run == id
        {
            *healthy_at = Some(proven);
            if proven <= cx.now {
                self.promote(cx, slot);
            }
        }
    }

    /// When a new instance has proved itself: it has been ready for `min_healthy`, and its health probe, if it has
    /// one, has succeeded, or has had the time in which it would have failed for good. On the way back to what worked
    /// before readiness is enough. `None` while it reloads.
    fn proven_at(&self, run: &Run) -> Option<Moment> {
        let ready = run.ready.filter(|_| run.reload_until.is_none())?;
        if self.rollout.as_ref().is_some_and(|rollout| rollout.rolling_back) {
            return Some(ready);
        }
        let spec = self.spec_of(run);
        let proven = ready.after(spec.rollout.min_healthy);
        match &spec.health {
            Some(health) if !run.worked => {
                let once = health.interval.0.saturating_add(health.timeout.0);
                let all = once.saturating_mul(u64::from(health.retries) + 1);
                let verdict = ready.after(Millis(health.start_period.0.saturating_add(all)));
                Some(proven.max(verdict))
            }
            Some(_) | None => Some(proven),
        }
    }

    /// Puts the new run into service and retires the old one.
    fn promote(&mut self, cx: &mut Cx, slot: Slot) {
        let record = self.slot_mut(slot);
        let old = std::mem::replace(&mut record.current, record.incoming.take());
        let (futile, rest, given_up) = (record.futile, record.rest, record.given_up);
        record.absolve();
        if self.user_rollout().is_none() {
            let record = self.slot_mut(slot);
            (record.futile, record.rest, record.given_up) = (futile, rest, given_up);
        }
        let record = self.slot_mut(slot);
        let new_is_stable = record
            .current
            .is_some_and(|run| self.runs.get(&run).is_some_and(|run| run.stable));
        let Some(rollout) = self.rollout.as_mut() else { return };
        rollout.done.push(slot);
        match old {
            Some(old) => {
                rollout.active.insert(slot, Step::Retiring(old));
                self.stop_run(cx, old, Cause::Replaced);
            }
            None => {
                rollout.active.remove(&slot);
            }
        }
        if new_is_stable && self.circuit.is_tripped() {
            self.became_stable(cx, slot);
        }
        self.advance(cx);
    }

    /// True if the exit of a run in service is the rollout's to answer rather than the restart law's: it is of
    /// the new generation, and that is still on probation.
    #[must_use]
    pub fn rollout_owns_failure(&self, slot: Slot, run: &Run) -> bool {
        self.rollout.as_ref().is_some_and(|rollout| {
            rollout.purpose == Purpose::Reload
                && !rollout.rolling_back
                && !rollout.finishing
                && !rollout.keep
                && rollout.done.contains(&slot)
                && run.generation == rollout.to
        })
    }

    /// A run is gone; perhaps one of ours.
    pub fn rollout_concluded(
        &mut self,
        cx: &mut Cx,
        run: &Run,
        was_current: bool,
        was_incoming: bool,
        spawn_error: Option<String>,
    ) {
        let (slot, id) = (run.slot, run.id);
        let owns =
            was_current && matches!(run.cause, None | Some(Cause::NotReady)) && self.rollout_owns_failure(slot, run);
        let Some(rollout) = self.rollout.as_mut() else { return };
        if rollout.inspecting == Some(id) {
            rollout.inspecting = None;
            rollout.order = Some(Order::StopFirst);
        }
        match rollout.active.get(&slot) {
            Some(Step::Clearing(old)) if *old == id => {
                self.start_incoming(cx, slot);
            }
            Some(Step::Retiring(old)) if *old == id => {
                rollout.active.remove(&slot);
                let planned = rollout.queue.contains(&slot)
                    || self
                        .slots
                        .get(slot as usize)
                        .is_some_and(|record| record.next_start.is_some() || record.completed);
                if !planned && self.current(slot).is_none() {
                    // The replacement has failed here for good: from now on by the restart law.
                    self.bring_up(cx, &[slot]);
                }
            }
            Some(Step::Abandoning(new)) if *new == id => {
                rollout.active.remove(&slot);
                if self.current(slot).is_none() {
                    self.requeue(slot);
                }
            }
            Some(Step::Proving { run: new, .. }) if *new == id && was_incoming => {
                rollout.active.remove(&slot);
                self.incoming_failed(cx, run, spawn_error);
            }
            Some(Step::Clearing(_) | Step::Retiring(_) | Step::Abandoning(_) | Step::Proving { .. }) | None => {}
        }
        if owns {
            self.keep_crash_of(cx, run);
            let why = Failure {
                slot: Some(slot),
                message: format!("the new instance ended: {}", run.ending("")),
                stderr: run.brief(),
            };
            self.fail_rollout(cx, why);
        }
        self.advance(cx);
    }

    /// Rollout times that have come.
    pub fn rollout_due(&mut self, cx: &mut Cx) {
        let Some(rollout) = self.rollout.as_ref() else { return };
        let healthy: Vec<Slot> = rollout
            .active
            .iter()
            .filter(|(_, step)| matches!(step, Step::Proving { healthy_at: Some(at), .. } if *at <= cx.now))
            .map(|(slot, _)| *slot)
            .collect();
        let late = rollout.deadline.is_some_and(|at| at <= cx.now);
        let total = self
            .specs
            .get(&rollout.to)
            .map_or_else(Millis::default, |spec| spec.rollout.deadline);
        if rollout.watch_until.is_some_and(|at| at <= cx.now) {
            if let Some(rollout) = self.rollout.as_mut() {
                rollout.watch_until = None;
                rollout.canary = 0;
            }
            self.advance(cx);
        }
        for slot in healthy {
            let ready = self
                .slots
                .get(slot as usize)
                .and_then(|record| record.incoming)
                .and_then(|run| self.runs.get(&run))
                .is_some_and(|run| run.phase == Phase::Online && run.reload_until.is_none());
            if ready {
                self.promote(cx, slot);
            } else if let Some(Step::Proving { healthy_at, .. }) =
                self.rollout.as_mut().and_then(|rollout| rollout.active.get_mut(&slot))
            {
                *healthy_at = None;
            }
        }
        if late && self.rollout.as_ref().is_some_and(|rollout| rollout.deadline.is_some()) {
            if let Some(rollout) = self.rollout.as_mut() {
                rollout.deadline = None;
                rollout.keep = false;
            }
            self.fail_rollout(
                cx,
                Failure {
                    slot: None,
                    message: format!("not done within {total}"),
                    stderr: Vec::new(),
                },
            );
        }
    }
}
