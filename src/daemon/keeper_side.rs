//! The daemon's end of the link to its keeper: what comes in, what goes out, and what a dead keeper means.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::daemon::Daemon;
use crate::daemon::custom::Custom;
use crate::daemon::runs::{Handle, Pipes, is_helper};
use crate::daemon::sinks;
use crate::keeper::link::LinkError;
use crate::keeper::protocol::{FromKeeper, ToKeeper};
use crate::logs::sink::StreamKey;
use crate::model::exit::Exit;
use crate::model::logspec::Stream;
use crate::model::names::{AppId, RunId, Slot};
use crate::model::process::ProcessId;
use crate::model::spec::Ready;
use crate::os::spawn::{self, SpawnError, Step};
use crate::os::{clock, procfs};
use crate::store::{Note, RunRow};
use crate::supervise::{Command, Input, policy};

impl Daemon {
    /// Queues a message for the keeper; the loop sends it.
    pub(crate) fn keeper_send(&mut self, message: &ToKeeper, fds: Vec<Arc<OwnedFd>>) {
        if let Err(error) = self.keeper.get_mut().queue(message, fds) {
            tracing::error!("a message to the keeper cannot be sent: {error}");
            if let ToKeeper::Spawn(request) = message {
                self.ordered.remove(&RunId(request.run));
                self.mail.input(Input::SpawnFailed(
                    RunId(request.run),
                    format!("the keeper cannot be asked: {error}"),
                ));
            }
        }
    }

    /// Takes everything that has arrived. `Err` when the keeper is gone.
    pub(crate) fn keeper_receive(&mut self) -> Result<(), LinkError> {
        while let Some((message, fds)) = self.keeper.get_mut().receive::<FromKeeper>()? {
            self.keeper_says(message, fds);
        }
        Ok(())
    }

    fn keeper_says(&mut self, message: FromKeeper, fds: Vec<OwnedFd>) {
        match message {
            FromKeeper::Spawned { run, pid, held, .. } => {
                let pipes = Pipes::take(held, &mut fds.into_iter());
                let run = RunId(run);
                self.ordered.remove(&run);
                if is_helper(run) {
                    self.helper_spawned(run, pipes.pidfd);
                } else {
                    self.spawned(run, pid, pipes);
                }
            }
            FromKeeper::SpawnFailed { run, step, errno } => {
                let run = RunId(run);
                self.ordered.remove(&run);
                let why = self.spawn_failure(run, step, errno);
                if is_helper(run) {
                    self.helper_ended(run, Err(why));
                } else if (SpawnError { step, errno }).is_shortage() {
                    self.input(Input::SpawnStarved(run, why));
                } else {
                    self.input(Input::SpawnFailed(run, why));
                }
            }
            FromKeeper::Exited {
                seq, run, pid, exit, ..
            } => {
                self.unacked = Some(self.unacked.map_or(seq, |known| known.max(seq)));
                let run = RunId(run);
                if is_helper(run) {
                    self.helper_ended(run, Ok(exit));
                } else {
                    self.leader_ended(run, pid, exit);
                }
            }
            FromKeeper::Terminate => {
                tracing::info!("the keeper was asked to end");
                self.terminate();
            }
            FromKeeper::Detach => {
                tracing::info!("the keeper was asked to leave without the apps");
                self.detaching = true;
                // Answered after everything that was ordered before.
                self.keeper_send(&ToKeeper::Ping, Vec::new());
            }
            FromKeeper::Reopen => self.reopen_all(),
            FromKeeper::Applied => self.runtime_applied(),
            FromKeeper::Stored { name, .. } => self.ready_pipe_found(&name, fds.into_iter().next()),
            FromKeeper::Refused { why } => tracing::error!("the keeper refused: {why}"),
            FromKeeper::Leave { id } => self.leave_for_another(id),
            FromKeeper::Upgraded(outcome) => self.upgrade_ended(outcome),
            FromKeeper::Pong => self.ponged(),
            FromKeeper::Welcome { .. }
            | FromKeeper::Trial(_)
            | FromKeeper::Children { .. }
            | FromKeeper::StoredNames { .. } => {}
        }
    }

    /// Stops everything and leaves.
    pub(crate) fn terminate(&mut self) {
        self.tell_stopping();
        self.runtime_stopping();
        self.command(Command::Shutdown, |daemon| daemon.leave());
    }

    fn spawn_failure(&self, run: RunId, step: Step, errno: i32) -> String {
        let cause = spawn::describe(errno);
        let program = self
            .spec_of(run)
            .and_then(|spec| spec.argv.first().map(ToString::to_string));
        let cwd = self.spec_of(run).map(|spec| spec.cwd.to_string());
        crate::daemon::text::spawn_failure(step, &cause, program.as_deref(), cwd.as_deref())
    }

    fn spawned(&mut self, run: RunId, pid: i32, pipes: Pipes) {
        let Some((app, slot)) = self
            .core
            .owner(run)
            .and_then(|app| app.runs.get(&run).map(|record| (app.id, record.slot)))
        else {
            // Forgotten meanwhile; nobody wants it.
            if let Some(fd) = pipes.pidfd {
                crate::os::pidfd::kill(&fd);
            }
            self.keeper_send(&ToKeeper::Release { run: run.0 }, Vec::new());
            return;
        };
        if !self.attach(run, app, slot, pid, pipes, false) {
            return;
        }
        self.input(Input::Spawned(run, pid));
        self.hear_early(run);
    }

    /// Takes a living or just ended process into the books: pipes to the pump, descriptors to its handle.
    pub(crate) fn attach(&mut self, run: RunId, app: AppId, slot: Slot, pid: i32, pipes: Pipes, adopted: bool) -> bool {
        let inodes = pipes.inodes();
        let Some(pidfd) = pipes.pidfd else {
            tracing::error!(%run, pid, "the keeper sent no pidfd");
            self.input(Input::SpawnFailed(
                run,
                "the process descriptor was lost; the limit of open files is too low".into(),
            ));
            return false;
        };
        let born = self.note_run(run, app, slot, pid);
        let Some(spec) = self.spec_of(run) else { return false };
        if let Ready::Log(pattern) = &spec.ready {
            match regex::bytes::Regex::new(pattern) {
                Ok(pattern) => self.pump.watch_line(run, pattern),
                Err(error) => tracing::error!(%run, "the readiness pattern is no regular expression: {error}"),
            }
        }
        if let Some(record) = self.core.apps.get(&app) {
            for (stream, pipe) in [(Stream::Out, pipes.out), (Stream::Err, pipes.err)] {
                if let Some(pipe) = pipe {
                    let mut sink = sinks::sink(&self.home.logs, record, &spec.logs, slot, stream, pid, adopted);
                    if let Some(runtime) = &self.runtime {
                        runtime.join_sink(&mut sink, record, &spec.logs, stream, self.core.apps.len() > 1);
                    }
                    self.pump.attach(StreamKey { run, stream }, pipe, sink);
                }
            }
        }
        let handle = Handle {
            app,
            slot,
            pid,
            pidfd: Arc::new(pidfd),
            stdin: pipes.stdin.map(Arc::new),
            channel: pipes.channel.map(Arc::new),
            wire: None,
            born,
            pipes: inodes,
            members: Vec::new(),
            tasks: Vec::new(),
            custom: Custom::new(adopted),
            exit: None,
        };
        self.handles.insert(run, handle);
        self.read_channel(run);
        self.sampling.started(&spec);
        true
    }

    /// Makes the process known to the next daemon even if the keeper dies, too; when it began.
    pub(crate) fn note_run(&self, run: RunId, app: AppId, slot: Slot, pid: i32) -> u64 {
        let process = procfs::identity(pid).unwrap_or_else(|| ProcessId {
            pid,
            start_ticks: 0,
            boot: Arc::clone(&self.boot),
        });
        let born = if process.start_ticks == 0 {
            u64::MAX
        } else {
            process.start_ticks
        };
        self.store.note(Note::RunStarted(RunRow {
            run,
            app,
            slot,
            process,
            started_at: clock::wall(),
        }));
        born
    }

    /// A process that led a run when the keeper said so has ended. First what it has sent before that is heard: that
    /// it has handed over to another, above all.
    pub(crate) fn leader_ended(&mut self, run: RunId, pid: i32, exit: Exit) {
        self.hear_all();
        if self.handles.get(&run).is_none_or(|handle| handle.pid == pid) {
            self.exited(run, exit);
        }
    }

    /// A leader has ended: first its last words, then the news.
    pub(crate) fn exited(&mut self, run: RunId, exit: Exit) {
        match self.handles.get_mut(&run) {
            Some(handle) if handle.exit.is_none() => {
                handle.exit = Some(exit);
                self.monitors.end(run);
                self.pump.drain(run);
                if self.restarts_at_once(run, &exit) {
                    // Its last words go to the file while its replacement starts; the news waits for them.
                    self.draining.insert(run);
                    self.input(Input::Exited(run, exit, Vec::new()));
                }
            }
            Some(_) => {}
            None => self.keeper_send(&ToKeeper::Release { run: run.0 }, Vec::new()),
        }
    }

    /// The law starts it again without a wait, and without a look at its last words. In the middle of a replacement
    /// they say why it failed, however long the instance had lived.
    fn restarts_at_once(&self, run: RunId, exit: &Exit) -> bool {
        let Some(app) = self.core.owner(run) else { return false };
        let Some(record) = app.runs.get(&run) else { return false };
        let law = self.spec_of(run);
        let is_settled = app.rollout.is_none() && app.runs_in(record.slot).count() == 1;
        is_settled
            && record.cause.is_none()
            && record.stable
            && law.is_some_and(|spec| policy::restart::wanted(&spec.restart, exit))
    }

    /// Its last words are in the files.
    pub(crate) fn drained(&mut self, run: RunId, stderr: Vec<String>) {
        if self.draining.remove(&run) {
            if self.draining.is_empty() {
                for (id, event) in std::mem::take(&mut self.held_back) {
                    self.publish(id, &event);
                }
            }
            return;
        }
        if let Some(exit) = self.handles.get(&run).and_then(|handle| handle.exit) {
            self.input(Input::Exited(run, exit, stderr));
        }
    }

    /// The first event that was recorded and is told when last words are in the files.
    pub(crate) fn unpublished(&self) -> Option<u64> {
        self.held_back.first().map(|(_, event)| event.seq)
    }

    /// Tells the keeper that it may forget exits, once they are written.
    pub(crate) fn acknowledge(&mut self) {
        let Some(up_to) = self.unacked.take() else { return };
        self.acking = true;
        self.persist();
        let mail = self.mail.clone();
        self.store.flush(Box::new(move |result| {
            mail.post(move |daemon| {
                daemon.acking = false;
                if result.is_ok() {
                    daemon.keeper_send(&ToKeeper::Ack { up_to }, Vec::new());
                } else {
                    daemon.unacked = Some(daemon.unacked.map_or(up_to, |known| known.max(up_to)));
                }
            });
        }));
    }
}
