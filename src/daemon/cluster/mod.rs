//! The manager as the primary of Node clusters (`exec_mode = "cluster"`): an app that calls `listen` gets a socket
//! that belongs to the app, not to the worker, and accepts from it itself. No connection passes through here.
//!
//! ```text
//!   worker                       manager
//!     │ queryServer ───────────▶ the socket of its slot ([`sockets`]), made when the first asks
//!     │ ◀───────────── the socket, by SCM_RIGHTS
//!     │ listening ─────────────▶ ready, if `ready = "listen"`
//!     │   … serves …
//!     │ ◀──────────── disconnect  in place of the stop signal ([`disconnect`])
//!     │ closes its servers, finishes its connections, ends
//! ```
//!
//! A worker exits when its channel ends, so it must never see that: the keeper holds our end, and the worker a spare
//! copy (`os::spare`). What is known of workers beside their channels is small and can be lost: keys are made from
//! addresses, ids from slots.

mod disconnect;
mod environment;
mod share;
mod sockets;

use std::collections::{BTreeMap, BTreeSet};

pub(crate) use disconnect::by_message;

use crate::daemon::Daemon;
use crate::daemon::channel::Reply;
use crate::model::balance::ExecMode;
use crate::model::names::RunId;
use crate::model::spec::{AppSpec, Ready};
use crate::node::message::{self, FromApp};
use crate::supervise::Input;

/// What is known of the workers beside their channels.
#[derive(Debug, Default)]
pub(crate) struct Workers {
    /// The servers that each has open: our keys for them, and the sockets' own.
    open: BTreeMap<RunId, BTreeMap<String, String>>,
    /// What was said of each about sockets that could not be had, to say it once.
    said: BTreeMap<RunId, BTreeSet<String>>,
    sharing: share::Sharing,
}

impl Workers {
    /// A run is over.
    pub(crate) fn forget(&mut self, run: RunId) {
        self.open.remove(&run);
        self.said.remove(&run);
    }
}

/// Its processes are workers.
pub(crate) fn is_worker(spec: &AppSpec) -> bool {
    spec.exec_mode == ExecMode::Cluster
}

impl Daemon {
    /// Acts on a message of the cluster protocol: what is to be answered, and whether something changed that a daemon
    /// after this one has to know.
    pub(crate) fn worker_message(&mut self, run: RunId, message: FromApp) -> (Option<Reply>, bool) {
        let Some(spec) = self.spec_of(run).filter(|spec| is_worker(spec)) else {
            return (None, false);
        };
        match message {
            FromApp::QueryServer { seq, query } => (Some(self.socket_reply(run, &spec, &seq, &query)), false),
            FromApp::Listening { .. } if spec.ready == Ready::Listen => {
                self.input(Input::Ready(run));
                (None, true)
            }
            FromApp::Close { key } => {
                let open = self.workers.open.get_mut(&run);
                if let Some(socket) = open.and_then(|open| open.remove(&key)) {
                    self.cluster_closed(run, &socket);
                }
                (None, false)
            }
            FromApp::ExitedAfterDisconnect { seq } => (Some((message::acknowledge(&seq), None)), false),
            FromApp::Recycle { requests } => {
                self.input(Input::Recycle(run, format!("answered {requests} requests")));
                (None, true)
            }
            FromApp::Answer { ack, accepted } => {
                self.connection_answered(run, ack, accepted);
                (None, false)
            }
            FromApp::Online
            | FromApp::Listening { .. }
            | FromApp::HandleAck
            | FromApp::HandleNack
            | FromApp::Handle { .. }
            | FromApp::Internal
            | FromApp::App(_) => (None, false),
        }
    }
}
