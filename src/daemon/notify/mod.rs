//! The server of `NOTIFY_SOCKET` (`sd_notify(3)`): one socket for all apps, senders named by the kernel.
//!
//! ```text
//!  datagram ─▶ sender (whose run is it?) ─▶ message (what does it say?) ─▶ act (core, descriptors, watchdog)
//!                                    └─ nobody's: said in the log, descriptors closed
//!  BARRIER ─▶ kept until everything before it has reached the keeper ─▶ closed, which is the answer
//! ```
//!
//! The socket is stored with the keeper, so what is sent while no daemon lives waits in its queue. The loop itself
//! receives, and acts upon one message before it takes the next: a daemon that is killed loses the one it has in
//! hand, if it was that far. Senders wait while the queue is full, so a flood costs the flooder.
//!
//! What a leader has sent before it ended is heard before its end is ([`Daemon::hear_all`]).

mod act;
mod main_process;
mod message;
mod sender;

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use crate::daemon::Daemon;
use crate::daemon::fdstore::FdStore;
use crate::daemon::mail::Mail;
use crate::model::names::RunId;
use crate::model::spec::{AppSpec, Ready};
use crate::os::notify::{Message as Datagram, NotifySocket};
use sender::Senders;

/// Messages acted upon between two looks at everything else.
const BATCH: usize = 64;
/// Messages that can have been sent before the end of a process: the longest queue that is likely, and more.
const QUEUE: usize = 4096;

/// Messages that may wait for the news that their run was started.
const EARLY: usize = 256;

/// What the server remembers.
#[derive(Debug, Default)]
pub(crate) struct Notify {
    socket: Option<NotifySocket>,
    senders: Senders,
    /// Those of barriers that everything before has been handled for, but not sent on yet.
    barriers: Vec<OwnedFd>,
    /// What runs have left for the next ones.
    pub(crate) store: FdStore,
    /// Messages of runs that the keeper has started and not told of yet.
    early: Vec<(RunId, Datagram)>,
    /// Runs whose complaint (a full store, a strange `MAINPID`) was recorded: once is enough.
    complained: BTreeSet<RunId>,
}

/// Whether an app is told where to send messages.
pub(crate) fn wants_notify(spec: &AppSpec) -> bool {
    spec.ready == Ready::Notify || spec.watchdog.is_some() || spec.fd_store > 0
}

impl Notify {
    /// Answers barriers. Call it when everything that was said to the keeper is sent.
    pub(crate) fn lift_barriers(&mut self) {
        self.barriers.clear();
    }

    /// A run is over.
    fn forget(&mut self, run: RunId) {
        self.complained.remove(&run);
        self.early.retain(|(of, _)| *of != run);
    }
}

/// Wakes the loop when there is something to hear.
async fn watch(socket: OwnedFd, mail: Mail) {
    let Ok(watch) = crate::os::watch::for_reading(socket) else {
        return;
    };
    loop {
        let Ok(mut guard) = watch.readable().await else { return };
        guard.clear_ready();
        loop {
            // A daemon that makes room for another leaves what comes now to that one.
            match mail.ask(|daemon| !daemon.upgrades.leaving && daemon.hear(BATCH)).await {
                Some(true) => {}
                Some(false) => break,
                None => return,
            }
        }
    }
}

impl Daemon {
    /// Begins to listen; what a socket of an earlier daemon has in its queue is heard first.
    ///
    /// # Errors
    /// The path cannot be bound, or no descriptors are left.
    pub(crate) fn listen_for_notices(&mut self, path: &Path, stored: Option<OwnedFd>) -> io::Result<OwnedFd> {
        let socket = match stored {
            Some(fd) => NotifySocket::from_fd(fd),
            None => NotifySocket::bind_path(path)?.leave_path(),
        };
        let copy = || socket.as_fd().try_clone_to_owned();
        let (watched, kept) = (copy()?, copy()?);
        tokio::spawn(watch(watched, self.mail.clone()));
        self.notify.socket = Some(socket);
        Ok(kept)
    }

    /// Hears what has been sent by now.
    pub(crate) fn hear_all(&mut self) {
        self.hear(QUEUE);
    }

    /// Hears so many messages at most; true if there may be more.
    fn hear(&mut self, most: usize) -> bool {
        for _ in 0..most {
            let received = self.notify.socket.as_ref().map(NotifySocket::recv);
            match received {
                Some(Ok(Some(datagram))) => self.heard(datagram),
                Some(Ok(None)) | None => return false,
                Some(Err(error)) => {
                    tracing::error!("messages of apps cannot be received: {error}");
                    return false;
                }
            }
        }
        true
    }

    /// A run is known from now on: what it has said before is heard.
    pub(crate) fn hear_early(&mut self, run: RunId) {
        let early = std::mem::take(&mut self.notify.early);
        for (of, datagram) in early {
            if of == run {
                self.heed(run, datagram);
            } else {
                self.notify.early.push((of, datagram));
            }
        }
    }

    fn heard(&mut self, datagram: Datagram) {
        let pid = datagram.pid;
        match self.run_of_sender(pid, datagram.process.as_ref()) {
            Some(run) if self.handles.contains_key(&run) => self.heed(run, datagram),
            Some(run) if self.notify.early.len() < EARLY => self.notify.early.push((run, datagram)),
            Some(_) | None => tracing::debug!(pid, "a message of a process that belongs to no app is ignored"),
        }
    }

    fn heed(&mut self, run: RunId, datagram: Datagram) {
        let Datagram {
            pid, text, cut, fds, ..
        } = datagram;
        if cut {
            tracing::debug!(%run, pid, "a message that is too long is ignored");
            return;
        }
        let message = message::parse(&text);
        if message.barrier {
            self.notify.barriers.extend(fds);
            return;
        }
        self.act_upon(run, message, fds);
    }

    /// A run is over, and so is what it said.
    pub(crate) fn forget_notices(&mut self, run: RunId) {
        self.notify.forget(run);
    }
}
