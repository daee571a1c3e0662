//! The sockets that workers ask for.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use serde_json::Value;

use crate::daemon::Daemon;
use crate::daemon::channel::Reply;
use crate::model::event::EventKind;
use crate::model::listen::{Address, ListenSpec};
use crate::model::names::{AppId, RunId};
use crate::model::spec::AppSpec;
use crate::node::message;
use crate::node::query::{self, Query, QueryError};
use crate::os::{clock, socket};
use crate::supervise::EventDraft;

/// How often a port that was free a moment ago is looked for.
const ATTEMPTS: u32 = 5;

/// Our key for a server of a worker.
fn server_key(spec: &ListenSpec, query: &Query) -> String {
    format!("{}#{}", spec.key(), query.index)
}

/// As the system numbers it, for the app.
fn errno(error: &io::Error) -> i32 {
    // A file that is no socket is in the way, too, as for Node's own.
    let in_the_way = || [io::ErrorKind::AddrInUse, io::ErrorKind::AlreadyExists].contains(&error.kind());
    match error.raw_os_error() {
        Some(number) => number,
        None if in_the_way() => libc::EADDRINUSE,
        None => libc::EINVAL,
    }
}

impl Daemon {
    /// The answer to a worker's question for a socket.
    pub(super) fn socket_reply(&mut self, run: RunId, spec: &AppSpec, seq: &Value, query: &Query) -> Reply {
        match self.worker_socket(run, spec, query) {
            Ok((key, fd)) => (message::socket_reply(seq, query, &key), Some(fd)),
            Err((key, error)) => (message::error_reply(seq, query, &key, errno(&error)), None),
        }
    }

    fn worker_socket(
        &mut self,
        run: RunId,
        spec: &AppSpec,
        query: &Query,
    ) -> Result<(String, Arc<OwnedFd>), (String, io::Error)> {
        let wanted = query.wanted(spec.cwd.as_path()).map_err(|error| {
            let number = match error {
                QueryError::Descriptor => libc::EBADF,
                QueryError::Invalid => libc::EINVAL,
            };
            (String::new(), io::Error::from_raw_os_error(number))
        })?;
        let Some(app) = self.handles.get(&run).map(|handle| handle.app) else {
            return Err((String::new(), io::Error::from_raw_os_error(libc::ESRCH)));
        };
        let mut last = (String::new(), io::Error::from_raw_os_error(libc::EINVAL));
        for candidate in self.candidates(app, spec, wanted) {
            let key = server_key(&candidate, query);
            let result = if self.excludes(run, app, query, &candidate) {
                Err(io::ErrorKind::AddrInUse.into())
            } else if query.any_port() && query.index > 0 {
                self.another_port(app, run, &candidate, query.index)
            } else {
                self.cluster_socket(run, &candidate).map(|fd| (fd, candidate.key()))
            };
            match result {
                Ok((fd, socket)) => {
                    let open = self.workers.open.entry(run).or_default();
                    open.insert(key.clone(), socket);
                    return Ok((key, fd));
                }
                Err(error) => {
                    self.say_trouble(run, app, spec, &candidate, &error);
                    last = (key, error);
                }
            }
        }
        Err(last)
    }

    /// What would do, the best first: the app's own `listen`, what other workers have, what Node tries in this order.
    fn candidates(&self, app: AppId, spec: &AppSpec, wanted: Vec<ListenSpec>) -> Vec<ListenSpec> {
        if let Some(own) = query::own(&wanted, &spec.listen) {
            return vec![own.clone()];
        }
        let held = self.listeners.all_of(app);
        match wanted
            .iter()
            .find(|one| held.iter().any(|known| known.key() == one.key()))
        {
            Some(shared) => vec![shared.clone()],
            None => wanted,
        }
    }

    /// The worker has the address already, or another of the app's own sockets covers it. (The system would say so
    /// itself if every worker bound its own.)
    fn excludes(&self, run: RunId, app: AppId, query: &Query, wanted: &ListenSpec) -> bool {
        let key = wanted.key();
        let mut open = self.workers.open.get(&run).into_iter().flatten();
        if !query.may_repeat() && open.any(|(_, open)| *open == key) {
            return true;
        }
        let held = self.listeners.all_of(app);
        held.iter().any(|other| other.key() != key && other.collides(wanted))
    }

    /// The second and later ports that a worker leaves to the kernel: each the same for all workers.
    fn another_port(
        &mut self,
        app: AppId,
        run: RunId,
        wanted: &ListenSpec,
        index: u64,
    ) -> io::Result<(Arc<OwnedFd>, String)> {
        let name = format!("{}#{index}", wanted.key());
        let known = self.core.apps.get(&app).and_then(|app| app.ports.get(&name).copied());
        let mut port = known;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let number = match port {
                Some(number) => number,
                None => socket::port(socket::listen(wanted, 0)?).ok_or(io::ErrorKind::AddrNotAvailable)?,
            };
            let mut spec = wanted.clone();
            if let Address::Tcp(inet) | Address::Udp(inet) = &mut spec.address {
                inet.set_port(number);
            }
            match self.cluster_socket(run, &spec) {
                Ok(fd) => {
                    if let Some(app) = self.core.apps.get_mut(&app) {
                        app.ports.insert(name, number);
                    }
                    return Ok((fd, spec.key()));
                }
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && attempt < ATTEMPTS => port = None,
                Err(error) => return Err(error),
            }
        }
    }

    /// Who has it, and what to do: the app itself hears a number only.
    fn say_trouble(&mut self, run: RunId, app: AppId, spec: &AppSpec, wanted: &ListenSpec, error: &io::Error) {
        let said = self.workers.said.entry(run).or_default();
        if !said.insert(wanted.key()) {
            return;
        }
        let message = self.listen_trouble(&spec.name, wanted, error);
        tracing::warn!(%run, "{}: {message}", spec.name);
        let handle = self.handles.get(&run);
        let draft = EventDraft {
            id: app,
            kind: EventKind::ListenFailed,
            app: spec.name.clone(),
            namespace: spec.namespace.clone(),
            slot: handle.map(|handle| handle.slot),
            pid: handle.map(|handle| handle.pid),
            message,
            exit: None,
            stderr: Vec::new(),
        };
        let event = self.hub.note(clock::wall(), draft);
        self.publish(app, &event);
    }
}
