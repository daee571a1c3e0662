//! Watching for readiness: one way per file. Each runs as a task that posts `Ready` once.

mod commands;
mod messages;
pub(crate) mod network;
mod pipe;

pub(crate) use pipe::name as pipe_name;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use crate::daemon::Daemon;
use crate::daemon::cluster::is_worker;
use crate::daemon::helper::HelperPlan;
use crate::keeper::protocol::ToKeeper;
use crate::model::names::RunId;
use crate::model::spec::Ready;
use crate::os::fds;
use crate::supervise::Input;

/// Time between two looks, growing from the first to the last.
#[derive(Debug)]
pub(crate) struct Pace(Duration);

impl Pace {
    /// Quick at first: most apps are ready soon.
    pub(crate) const fn new() -> Self {
        Self(Duration::from_millis(10))
    }

    /// Waits, longer each time, half a second at most.
    pub(crate) async fn wait(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 3 / 2).min(Duration::from_millis(500));
    }
}

impl Daemon {
    /// Begins to watch a run by its rule.
    pub(crate) fn probe(&mut self, run: RunId) {
        let (Some(spec), Some(handle)) = (self.spec_of(run), self.handles.get(&run)) else {
            return;
        };
        let (slot, pid, mail) = (handle.slot, handle.pid, self.mail.clone());
        let filled = |text: &str| {
            let port = self
                .run_environment(run, slot, &spec)
                .get("PORT")
                .map_or_else(String::new, |value| value.to_text().into_owned());
            text.replace("{port}", &port)
        };
        let task = match &spec.ready {
            // Log lines are watched by the pump from the first byte on, the channel by its reader (workers say there
            // that they listen), notify messages by the one socket of this daemon.
            Ready::Spawn | Ready::Log(_) | Ready::Ipc | Ready::Notify => return,
            Ready::Listen if is_worker(&spec) => return,
            Ready::Listen => tokio::spawn(network::listens(mail, run, pid)),
            Ready::Tcp(address) => tokio::spawn(network::accepts(mail, run, filled(address))),
            Ready::Http(url) => tokio::spawn(network::answers(mail, run, filled(url))),
            Ready::Fd(_) => match self.ready_pipes.remove(&run) {
                Some(reader) => tokio::spawn(pipe::written(mail, run, reader, Arc::clone(&handle.pidfd))),
                // A daemon before this one has given the order; the keeper may have the pipe, and its answer brings us
                // here again.
                None => {
                    let name = pipe::name(run);
                    return self.keeper_send(&ToKeeper::Fetch { name }, Vec::new());
                }
            },
            Ready::Exec(argv) => {
                let mut env = self.run_environment(run, slot, &spec);
                env.remove(crate::daemon::spawning::MARKER);
                env.insert("CLMGR_PID".into(), pid.to_string().into());
                let (argv, cwd) = (argv.clone(), spec.cwd.clone());
                let plan = move || HelperPlan {
                    argv: argv.clone(),
                    env: env.clone(),
                    cwd: cwd.clone(),
                    input: None,
                };
                tokio::spawn(commands::succeeds(mail, run, plan))
            }
        };
        if let Some(handle) = self.handles.get_mut(&run) {
            handle.tasks.push(task.abort_handle());
        }
    }

    /// The keeper's answer to the question for a pipe. A keeper that is new has none; the app itself may.
    pub(crate) fn ready_pipe_found(&mut self, name: &str, fd: Option<OwnedFd>) {
        let Some(run) = pipe::run_of(name) else { return };
        let Some(Ready::Fd(number)) = self.spec_of(run).map(|spec| spec.ready.clone()) else {
            return;
        };
        let Some(handle) = self.handles.get(&run) else { return };
        match fd.or_else(|| fds::reopen_pipe(handle.pid, number).ok()) {
            Some(fd) => {
                self.ready_pipes.insert(run, Arc::new(fd));
                self.probe(run);
            }
            // It was closed.
            None => self.mail.input(Input::Ready(run)),
        }
    }

    /// Stops watching.
    pub(crate) fn end_probe(&mut self, run: RunId) {
        if let Some(handle) = self.handles.get_mut(&run) {
            handle.end_tasks();
        }
        if self.ready_pipes.remove(&run).is_some() {
            self.drop_ready_pipe(run);
        }
    }
}
