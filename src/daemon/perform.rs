//! Doing what the core decided.

use std::sync::Arc;

use crate::api::status::Crash;
use crate::daemon::listeners::Answers;
use crate::daemon::ready::pipe_name;
use crate::daemon::{Daemon, require};
use crate::keeper::protocol::ToKeeper;
use crate::model::event::Event;
use crate::model::names::{AppId, RunId, Slot};
use crate::model::spec::AppSpec;
use crate::os::{clock, listening, tree};
use crate::store::{AppRow, Change as StoreChange, Note};
use crate::supervise::run::Phase;
use crate::supervise::{Change, Input, Output};

/// What is done when the records are written.
#[derive(Default)]
struct AfterWriting {
    answers: Answers,
    spawns: Vec<(RunId, AppId, Slot, Arc<AppSpec>)>,
}

impl Daemon {
    /// Performs everything that is waiting, in order.
    pub(crate) fn perform_all(&mut self) {
        let mut after = AfterWriting::default();
        // Before anybody is told anything, or answered.
        self.follow_rotations();
        while let Some(output) = self.core.poll_output() {
            self.perform(output, &mut after);
        }
        if after.answers.is_empty() && after.spawns.is_empty() {
            return;
        }
        // Whatever the answers say is written before they are given: if keeper and daemon die now, the next ones
        // know every process they speak of. A disk that is full is told by an event.
        self.write_records();
        if !after.answers.is_empty() {
            for (_, answer) in &mut after.answers {
                self.tell_where_it_waits(answer.as_mut().map_or(&mut [], |lines| lines.as_mut_slice()));
            }
            self.answer_when_closed(after.answers);
        }
        if !after.spawns.is_empty() {
            let mail = self.mail.clone();
            self.store.write(Box::new(move |_| {
                mail.post(move |daemon| {
                    for (run, app, slot, spec) in after.spawns {
                        if daemon.is_to_be_ordered(run) {
                            daemon.spawn(run, app, slot, &spec);
                        }
                    }
                });
            }));
        }
    }

    /// The process is one too many for whoever knows only what was written: a second one in its slot, or of a
    /// generation that is not in force yet. The next daemon would take it for a stranger and stop it, with the
    /// connections that it has accepted by then.
    fn is_in_advance(&self, run: RunId) -> bool {
        self.core.owner(run).is_some_and(|app| {
            let slot = app.runs.get(&run).map(|record| record.slot);
            app.rollout.is_some() || slot.is_some_and(|slot| app.runs_in(slot).count() > 1)
        })
    }

    /// The order is still to be given: nothing else happened to the run meanwhile, and no new keeper got it.
    fn is_to_be_ordered(&self, run: RunId) -> bool {
        let record = self.core.owner(run).and_then(|app| app.runs.get(&run));
        let waits = record.is_some_and(|record| record.phase == Phase::Spawning);
        waits && !self.detaching && !self.ordered.contains(&run)
    }

    fn perform(&mut self, output: Output, after: &mut AfterWriting) {
        match output {
            Output::Commit(changes) => self.commit(changes),
            Output::Check(id, spec) => {
                let mail = self.mail.clone();
                tokio::spawn(async move {
                    let result = require::check(&spec).await;
                    mail.input(Input::Checked(id, result));
                });
            }
            // The next daemon finds in the record that it is still to be done.
            Output::Spawn { .. } if self.detaching => {}
            Output::Spawn { run, app, slot, spec } if self.is_in_advance(run) => {
                after.spawns.push((run, app, slot, spec));
            }
            Output::Spawn { run, app, slot, spec } => self.spawn(run, app, slot, &spec),
            Output::Probe(run) => self.probe(run),
            Output::EndProbe(run) => self.end_probe(run),
            Output::Monitor(run) => self.monitor(run),
            Output::EndMonitor(run) => self.end_monitor(run),
            Output::PreStop(run) => {
                self.leave_rotation(run);
                self.pre_stop(run);
            }
            Output::Stop(run) => self.stop(run),
            Output::Kill(run) => {
                self.leave_rotation(run);
                self.kill(run);
            }
            Output::Sweep(run, until) => self.sweep(run, until),
            Output::Inspect(run) => self.inspect(run),
            Output::Release(run) => self.release(run),
            Output::Event(draft) => {
                let id = draft.id;
                let event = self.hub.note(clock::wall(), *draft);
                if self.draining.is_empty() {
                    self.publish(id, &event);
                } else {
                    self.held_back.push((id, event));
                }
            }
            Output::Crash(draft) => {
                let crash = Crash {
                    at: clock::wall(),
                    slot: draft.slot,
                    pid: draft.pid,
                    exit: draft.exit,
                    uptime_ms: draft.uptime.0,
                    stderr: draft.stderr,
                };
                self.hub.keep(Note::Crash {
                    app: draft.app,
                    crash: Box::new(crash),
                });
            }
            Output::Reply(ticket, result) => {
                if let Some(sender) = self.replies.remove(&ticket) {
                    after.answers.push((sender, result));
                }
            }
        }
    }

    /// Streams and alerts.
    pub(crate) fn publish(&mut self, id: AppId, event: &Event) {
        if let Some(service) = &mut self.service {
            service.changed(clock::monotonic());
        }
        self.hub.tell(event);
        self.runtime_notes(event);
        self.alert(id, event);
    }

    fn commit(&mut self, changes: Vec<Change>) {
        let now = clock::wall();
        let mut rows = Vec::new();
        for change in changes {
            rows.push(match change {
                Change::Put {
                    id,
                    spec,
                    desired,
                    wanted,
                    held,
                } => {
                    let created_at = *self.created.entry(id).or_insert(now);
                    StoreChange::PutApps(vec![AppRow {
                        id,
                        spec,
                        desired,
                        wanted,
                        held,
                        created_at,
                    }])
                }
                Change::Want {
                    id,
                    desired,
                    wanted,
                    held,
                } => StoreChange::SetDesired(vec![(id, desired, wanted, held)]),
                Change::Delete(id) => StoreChange::DeleteApps(vec![id]),
            });
        }
        let mail = self.mail.clone();
        self.store.commit(
            rows,
            Box::new(move |result| {
                mail.input(Input::Committed(
                    result.map_err(|error| crate::daemon::text::chain(&error)),
                ));
            }),
        );
    }

    fn inspect(&mut self, run: RunId) {
        let mut pids: Vec<i32> = self.handles.get(&run).map(|handle| handle.pid).into_iter().collect();
        if let Some(pid) = pids.first().copied() {
            pids.extend(tree::descendants(pid).iter().map(|member| member.pid));
        }
        // Sockets that it inherited are no obstacle: its replacement inherits them, too.
        let exclusive = !listening::listening_besides(&pids, &self.listeners.inodes()).is_empty();
        self.mail.input(Input::Inspected(run, exclusive));
    }

    fn release(&mut self, run: RunId) {
        self.core.release(run);
        self.end_monitor(run);
        self.samples.remove(&run);
        self.connections_back(run);
        self.workers.forget(run);
        self.store.note(Note::RunEnded { run });
        self.drop_ready_pipe(run);
        self.listeners.forget(run);
        self.forget_notices(run);
        if let Some(mut handle) = self.handles.remove(&run) {
            handle.end_tasks();
            self.pump.detach(run);
            self.keeper_send(&ToKeeper::Release { run: run.0 }, Vec::new());
        }
    }

    /// Closes the keeper's copy of a readiness pipe.
    pub(crate) fn drop_ready_pipe(&mut self, run: RunId) {
        let fd_ready = self
            .spec_of(run)
            .is_some_and(|spec| matches!(spec.ready, crate::model::spec::Ready::Fd(_)));
        if fd_ready || self.ready_pipes.remove(&run).is_some() {
            self.keeper_send(&ToKeeper::Drop { name: pipe_name(run) }, Vec::new());
        }
    }

    /// Writes what has changed. First everything that was decided is performed: a record whose events are not told yet
    /// would never tell them.
    pub(crate) fn persist(&mut self) {
        self.perform_all();
        self.write_records();
    }

    fn write_records(&mut self) {
        let mut notes = self.hub.take_notes();
        self.export_dirty(&mut notes);
        self.store.notes(notes);
        // Now, not when notes have gathered: whoever killed this daemon's predecessor may be after it, too.
        self.store.write(Box::new(|_| {}));
    }

    fn export_dirty(&mut self, notes: &mut Vec<Note>) {
        for id in self.core.take_dirty() {
            self.tend_demand(id);
            self.tend_listeners(id);
            self.tend_fd_store(id);
            self.tend_logs(id);
            let Some(app) = self.core.apps.get(&id) else { continue };
            match app.export() {
                Ok(json) => notes.push(Note::Runtime(crate::store::RuntimeRow {
                    app: id,
                    boot: Arc::clone(&self.boot),
                    json,
                })),
                Err(error) => tracing::error!(%id, "an app's record cannot be written: {error}"),
            }
        }
    }
}
