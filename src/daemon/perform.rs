//! Doing what the core decided.

use std::sync::Arc;

use crate::api::status::Crash;
use crate::daemon::ready::pipe_name;
use crate::daemon::{Daemon, require};
use crate::keeper::protocol::ToKeeper;
use crate::model::names::RunId;
use crate::os::{clock, listening, tree};
use crate::store::{AppRow, Change as StoreChange, Note};
use crate::supervise::{Change, EventDraft, Input, Output};

impl Daemon {
    /// Performs everything that is waiting, in order.
    pub(crate) fn perform_all(&mut self) {
        while let Some(output) = self.core.poll_output() {
            self.perform(output);
        }
    }

    fn perform(&mut self, output: Output) {
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
            Output::Spawn { run, app, slot, spec } => self.spawn(run, app, slot, &spec),
            Output::Probe(run) => self.probe(run),
            Output::EndProbe(run) => self.end_probe(run),
            Output::PreStop(run) => self.pre_stop(run),
            Output::Stop(run) => self.stop(run),
            Output::Kill(run) => self.kill(run),
            Output::Sweep(run, until) => self.sweep(run, until),
            Output::Inspect(run) => self.inspect(run),
            Output::Release(run) => self.release(run),
            Output::Event(draft) => {
                if self.draining.is_empty() {
                    self.publish(*draft);
                } else {
                    self.held_back.push(*draft);
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
                self.store.note(Note::Crash {
                    app: draft.app,
                    crash: Box::new(crash),
                });
            }
            Output::Reply(ticket, result) => {
                if let Some(sender) = self.replies.remove(&ticket) {
                    // Whatever the answer says is written before it is given: if keeper and daemon die now, the
                    // next ones know every process it speaks of. A disk that is full is told by an event.
                    self.persist();
                    self.answer_when_closed(sender, result);
                }
            }
        }
    }

    /// Records, streams and alerts.
    pub(crate) fn publish(&mut self, draft: EventDraft) {
        let id = draft.id;
        if let Some(service) = &mut self.service {
            service.changed(clock::monotonic());
        }
        let event = self.hub.publish(clock::wall(), draft);
        self.runtime_notes(&event);
        self.alert(id, &event);
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
        self.samples.remove(&run);
        self.store.note(Note::RunEnded { run });
        self.drop_ready_pipe(run);
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

    /// Writes the records of apps that changed.
    pub(crate) fn persist(&mut self) {
        self.export_dirty();
        // Now, not when notes have gathered: whoever killed this daemon's predecessor may be after it, too.
        self.store.write(Box::new(|_| {}));
    }

    fn export_dirty(&mut self) {
        for id in self.core.take_dirty() {
            self.tend_listeners(id);
            let Some(app) = self.core.apps.get(&id) else { continue };
            match app.export() {
                Ok(json) => self.store.note(Note::Runtime(crate::store::RuntimeRow {
                    app: id,
                    boot: Arc::clone(&self.boot),
                    json,
                })),
                Err(error) => tracing::error!(%id, "an app's record cannot be written: {error}"),
            }
        }
    }
}
