//! The restart law: what follows an exit that nobody asked for.
//!
//! After a stable life the next start is immediate (or waits `restart_delay`). The k-th unstable exit in a row
//! waits by [`policy::backoff`]. Too many inside the window open the instance's circuit, or the app's when no
//! instance is stable ([`policy::breaker`]). An open circuit starts nothing; after its cooldown one probe is
//! tried, and if that becomes stable the rest follow. An end that a daemon before this one may have ordered
//! ([`policy::lost_order`]) counts for nothing: the next start is as after a stable life.

use std::sync::Arc;

use crate::model::event::EventKind;
use crate::model::exit::Exit;
use crate::model::names::Slot;
use crate::model::spec::{AppSpec, RestartSpec};
use crate::model::time::Moment;
use crate::supervise::app::App;
use crate::supervise::cx::Cx;
use crate::supervise::output::{CrashDraft, Output};
use crate::supervise::policy::breaker::{self, Circuit};
use crate::supervise::policy::{self, stability};
use crate::supervise::run::{Cause, Run};

impl App {
    /// The run in service of a slot ended by itself, did not become ready, or could not be started.
    pub fn after_failure(&mut self, cx: &mut Cx, run: &Run, spawn_error: Option<String>) {
        let Some((ended, exit)) = run.exit else { return };
        let slot = run.slot;
        let spec = Arc::clone(self.spec_of(run));
        let law = &spec.restart;
        let not_ready = run.cause == Some(Cause::NotReady);
        let stable = was_stable(run, ended, law);
        let not_spawned = spawn_error.is_some();
        let excused = !not_spawned && is_excused(cx, run, &spec);
        let reason = spawn_error.unwrap_or_else(|| {
            if not_ready {
                format!("not ready after {}", self.patience(run))
            } else {
                run.ending("")
            }
        });
        if !stable && !excused {
            self.keep_crash(cx, run);
        }
        if !self.is_wanted(slot) {
            return;
        }
        let record = self.slot_mut(slot);
        record.reason = Some(reason.clone());
        record.stderr = run.brief();
        if run.starved {
            self.starved(cx, slot, law, reason);
            return;
        }
        let ended_by_itself = !not_spawned && !not_ready;
        if ended_by_itself && !policy::restart::wanted(law, &exit) {
            record.completed = true;
            record.circuit = Circuit::Closed;
            cx.event(
                self,
                EventKind::Completed,
                Some(slot),
                run.pid,
                format!("{exit}; not to be restarted"),
            );
            if self.circuit.is_tripped() {
                // It came to an end the spec calls good: as good as stable.
                self.close_app_circuit(cx);
            }
            return;
        }
        let record = self.slot_mut(slot);
        record.restarts = record.restarts.saturating_add(1);
        if stable || excused {
            if stable && !run.stable {
                // It ended in the very moment in which it would have been found stable.
                self.became_stable(cx, slot);
                let record = self.slot_mut(slot);
                record.reason = Some(reason.clone());
                record.stderr = run.brief();
            }
            if self.runs_in(slot).next().is_none() {
                if stable {
                    self.slot_mut(slot).unstable = 0;
                }
                self.start_later(cx, slot, law, &reason);
            }
        } else {
            self.count_unstable(cx, run, law, reason, exit);
        }
    }

    /// True if it ended before it was stable, by itself or because it did not become ready, and not in good order. To
    /// be asked when it has just ended.
    pub(super) fn has_crashed(&self, cx: &Cx, run: &Run) -> bool {
        let Some((ended, _)) = run.exit else { return false };
        let spec = self.spec_of(run);
        let unasked = match run.cause {
            None | Some(Cause::NotReady) => true,
            Some(Cause::Unwanted | Cause::Restart | Cause::Replaced) => false,
        };
        unasked && !was_stable(run, ended, &spec.restart) && !is_excused(cx, run, spec)
    }

    fn keep_crash(&self, cx: &mut Cx, run: &Run) {
        // What could not be started has no exit code and no last words; its event says why.
        let (Some((ended, exit)), Some(pid)) = (run.exit, run.pid) else {
            return;
        };
        let uptime = run.began.map_or_else(Default::default, |began| ended.since(began));
        let draft = CrashDraft {
            app: self.id,
            slot: run.slot,
            pid,
            exit,
            uptime,
            stderr: run.stderr.clone(),
        };
        cx.emit(Output::Crash(Box::new(draft)));
    }

    /// The same for crashes of runs that a rollout answers for.
    pub fn keep_crash_of(&self, cx: &mut Cx, run: &Run) {
        self.keep_crash(cx, run);
    }

    fn count_unstable(&mut self, cx: &mut Cx, run: &Run, law: &RestartSpec, reason: String, exit: Exit) {
        let slot = run.slot;
        let now = cx.now;
        let limit = breaker::app_limit(law, self.desired);
        let of_app = self.window.record(now, law.window, limit);
        let record = self.slot_mut(slot);
        record.unstable = record.unstable.saturating_add(1);
        let of_slot = record.window.record(now, law.window, law.max_restarts as usize);
        let slot_probe_failed = matches!(record.circuit, Circuit::Probing { .. });
        if matches!(self.circuit, Circuit::Probing { .. }) {
            self.circuit = self.circuit.tripped(now, law);
            let message = format!("the probe failed: {reason}{}", self.next_probe(self.circuit, cx));
            cx.event(self, EventKind::CircuitProbe, Some(slot), run.pid, message);
            self.reason = Some(reason);
        } else if self.circuit.is_tripped() {
            // Opened by the others meanwhile.
        } else if of_app >= limit && !self.any_stable() {
            let message = format!(
                "{of_app} exits within {} and no instance is stable; the last: {reason}",
                law.window
            );
            self.trip_app(cx, message, Some(exit), run.brief());
        } else if slot_probe_failed || of_slot >= law.max_restarts as usize {
            let record = self.slot_mut(slot);
            record.circuit = record.circuit.tripped(now, law);
            let circuit = record.circuit;
            let next = self.next_probe(circuit, cx);
            if slot_probe_failed {
                cx.event(
                    self,
                    EventKind::CircuitProbe,
                    Some(slot),
                    run.pid,
                    format!("the probe failed: {reason}{next}"),
                );
            } else {
                let message = format!("{of_slot} exits within {}; the last: {reason}{next}", law.window);
                let mut draft = Cx::draft(self, EventKind::CircuitOpen, Some(slot), run.pid, message);
                draft.exit = Some(exit);
                draft.stderr = run.brief();
                cx.emit(Output::Event(Box::new(draft)));
            }
        } else {
            self.start_later(cx, slot, law, &reason);
        }
    }

    /// The machine could not start it. The wait grows as with unstable exits, but no window counts it, and a probe
    /// that was never made says nothing: its circuit stays open for as long as it was.
    fn starved(&mut self, cx: &mut Cx, slot: Slot, law: &RestartSpec, reason: String) {
        if matches!(self.circuit, Circuit::Probing { .. }) {
            self.circuit = self.circuit.postponed(cx.now, law);
            let message = format!(
                "the probe could not be made: {reason}{}",
                self.next_probe(self.circuit, cx)
            );
            cx.event(self, EventKind::CircuitProbe, Some(slot), None, message);
            self.reason = Some(reason);
            return;
        }
        let now = cx.now;
        let app_is_open = self.circuit.is_tripped();
        let record = self.slot_mut(slot);
        if !app_is_open && matches!(record.circuit, Circuit::Probing { .. }) {
            record.circuit = record.circuit.postponed(now, law);
            let circuit = record.circuit;
            let message = format!("the probe could not be made: {reason}{}", self.next_probe(circuit, cx));
            cx.event(self, EventKind::CircuitProbe, Some(slot), None, message);
            return;
        }
        record.unstable = record.unstable.saturating_add(1);
        self.start_later(cx, slot, law, &reason);
    }

    fn next_probe(&self, circuit: Circuit, cx: &Cx) -> String {
        match circuit {
            Circuit::Open { until: Some(until), .. } => format!("; next try in {}", until.since(cx.now)),
            Circuit::Open { until: None, .. } => format!("; start it again with: clmgr restart {}", self.name()),
            Circuit::Closed | Circuit::Probing { .. } => String::new(),
        }
    }

    fn start_later(&mut self, cx: &mut Cx, slot: Slot, law: &RestartSpec, reason: &str) {
        if self.circuit.is_tripped() {
            // It starts when the circuit closes.
            return;
        }
        let seed = cx.peek_run();
        let record = self.slot_mut(slot);
        let wait = if record.unstable == 0 {
            law.delay
        } else {
            law.delay
                .max(policy::backoff::wait(record.unstable, &law.backoff, seed))
        };
        if wait.0 == 0 {
            self.launch_current(cx, slot);
            return;
        }
        record.next_start = Some(cx.now.after(wait));
        cx.event(
            self,
            EventKind::Backoff,
            Some(slot),
            None,
            format!("{reason}; next start in {wait}"),
        );
    }

    /// Opens the circuits of instances that cannot be started.
    pub fn trip_slots(&mut self, cx: &mut Cx, slots: &[Slot], why: &str) {
        let law = self.spec().restart.clone();
        for slot in slots.iter().copied() {
            let record = self.slot_mut(slot);
            let kind = if record.circuit.is_tripped() {
                EventKind::CircuitProbe
            } else {
                EventKind::CircuitOpen
            };
            record.circuit = record.circuit.tripped(cx.now, &law);
            record.reason = Some(why.to_owned());
            let message = format!("{why}{}", self.next_probe(self.slots[slot as usize].circuit, cx));
            cx.event(self, kind, Some(slot), None, message);
        }
    }

    /// Opens the circuit of the app as a whole.
    pub fn trip_app(&mut self, cx: &mut Cx, why: String, exit: Option<Exit>, stderr: Vec<String>) {
        let law = self.spec().restart.clone();
        let again = self.circuit.is_tripped();
        self.circuit = self.circuit.tripped(cx.now, &law);
        for record in &mut self.slots {
            record.next_start = None;
            record.unchecked = false;
        }
        let message = format!("{why}{}", self.next_probe(self.circuit, cx));
        let kind = if again {
            EventKind::CircuitProbe
        } else {
            EventKind::CircuitOpen
        };
        let mut draft = Cx::draft(self, kind, None, None, message);
        draft.exit = exit;
        draft.stderr = stderr;
        cx.emit(Output::Event(Box::new(draft)));
        self.reason = Some(why);
    }

    fn close_app_circuit(&mut self, cx: &mut Cx) {
        self.circuit = Circuit::Closed;
        self.window.clear();
        self.reason = None;
        cx.event(self, EventKind::CircuitClosed, None, None, "the circuit is closed");
        for record in &mut self.slots {
            record.circuit = Circuit::Closed;
            record.window.clear();
        }
        let waiting: Vec<Slot> = self
            .wanted_slots()
            .filter(|slot| self.slots.get(*slot as usize).is_none_or(|s| !s.completed))
            .collect();
        self.bring_up(cx, &waiting);
    }

    /// The run in service of a slot has proved itself.
    pub fn became_stable(&mut self, cx: &mut Cx, slot: Slot) {
        let record = self.slot_mut(slot);
        record.unstable = 0;
        record.reason = None;
        record.stderr = Vec::new();
        let was_open = record.circuit.is_tripped();
        if was_open {
            record.window.clear();
        }
        record.circuit = Circuit::Closed;
        if self.circuit.is_tripped() {
            self.close_app_circuit(cx);
        } else if was_open {
            cx.event(
                self,
                EventKind::CircuitClosed,
                Some(slot),
                None,
                "the circuit is closed",
            );
        }
    }

    /// Somebody acts: all failures are forgotten.
    pub fn absolve(&mut self) {
        self.circuit = Circuit::Closed;
        self.window.clear();
        self.reason = None;
        for record in &mut self.slots {
            record.absolve();
        }
    }

    /// Some slots are as good as new; all are, and may start, if the app's circuit was open.
    pub fn pardon(&mut self, slots: &[Slot]) {
        if self.circuit.is_tripped() {
            self.absolve();
        }
        self.window.clear();
        for slot in slots {
            self.slot_mut(*slot).absolve();
        }
    }

    /// Starts whose wait is over, and probes of open circuits.
    pub fn circuits_due(&mut self, cx: &mut Cx) {
        let now = cx.now;
        if self.wanted_slots().next().is_none() {
            return;
        }
        if let Circuit::Open {
            until: Some(until),
            cooldown,
        } = self.circuit
            && until <= now
        {
            self.circuit = Circuit::Probing { cooldown };
            self.probe(cx);
        }
        if self.circuit.is_tripped() {
            return;
        }
        let wanted: Vec<Slot> = self.wanted_slots().collect();
        for slot in wanted {
            let record = self.slot_mut(slot);
            if let Circuit::Open {
                until: Some(until),
                cooldown,
            } = record.circuit
                && until <= now
            {
                record.circuit = Circuit::Probing { cooldown };
                if record.current.is_none() {
                    cx.event(self, EventKind::CircuitProbe, Some(slot), None, "trying it again");
                    self.bring_up(cx, &[slot]);
                }
            } else if record.next_start.is_some_and(|at| at <= now) {
                record.next_start = None;
                if record.current.is_none() {
                    self.launch_current(cx, slot);
                }
            }
        }
    }

    /// Tries one instance while the app's circuit is half open. Those that still run are tries, too.
    fn probe(&mut self, cx: &mut Cx) {
        let busy = self.busy_slots();
        let free = self.wanted_slots().find(|slot| {
            let completed = self.slots.get(*slot as usize).is_some_and(|record| record.completed);
            !busy.contains(slot) && !completed
        });
        if let Some(slot) = free {
            self.slot_mut(slot).circuit = Circuit::Closed;
            cx.event(self, EventKind::CircuitProbe, Some(slot), None, "trying one instance");
            self.bring_up(cx, &[slot]);
        }
    }

    /// Starts what is wanted and was left behind: a slot that became empty only now, or whose wait was
    /// forgiven. Whatever else happened, no wanted slot stays down without a reason and a time.
    pub fn mend(&mut self, cx: &mut Cx) {
        if self.rollout.is_some() || self.circuit.is_open() {
            return;
        }
        // Mostly nothing is to be done, and this is looked at after every input: no allocation before.
        let behind = |slot: Slot| {
            self.slots.get(slot as usize).is_none_or(|record| {
                record.current.is_none()
                    && record.next_start.is_none()
                    && !record.unchecked
                    && !record.completed
                    && !record.circuit.is_open()
            })
        };
        if !self.circuit.is_tripped() && !self.wanted_slots().any(behind) {
            return;
        }
        let busy = self.busy_slots();
        let left: Vec<Slot> = self
            .wanted_slots()
            .filter(|slot| self.slots.get(*slot as usize).is_none_or(|record| !record.completed))
            .collect();
        let pending =
            |slot: &Slot| busy.contains(slot) || self.slots.get(*slot as usize).is_some_and(|record| record.unchecked);
        if self.circuit.is_tripped() {
            if left.iter().any(pending) {
                return;
            }
            if !left.is_empty() {
                self.probe(cx);
            } else if self.wanted_slots().next().is_some() {
                self.close_app_circuit(cx);
            }
            return;
        }
        let behind: Vec<Slot> = left
            .iter()
            .copied()
            .filter(|slot| {
                !pending(slot)
                    && self
                        .slots
                        .get(*slot as usize)
                        .is_none_or(|record| record.next_start.is_none() && !record.circuit.is_open())
            })
            .collect();
        self.bring_up(cx, &behind);
    }
}

/// It was found stable, or would have been in this very moment.
fn was_stable(run: &Run, ended: Moment, law: &RestartSpec) -> bool {
    run.stable
        || run
            .began
            .is_some_and(|began| stability::is_stable(began, run.ready, ended, law.min_uptime))
}

/// The daemon before may have ordered it to end.
fn is_excused(cx: &Cx, run: &Run, spec: &AppSpec) -> bool {
    cx.inheritance
        .is_some_and(|inheritance| inheritance.excuses(run, &spec.stop))
}
