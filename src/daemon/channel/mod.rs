//! The IPC channels of the apps that have one: one task for each reads and writes it, the loop answers.
//!
//! ```text
//!   socket ─ peek ─▶ lines ─▶ the loop acts ─▶ replies ─▶ outbox ─▶ socket
//!      ▲                                                    │
//!      └── consumed only when it is acted on, answered, ◀───┘
//!          and (readiness) written down
//! ```
//!
//! So a daemon that is killed loses no line: the next one finds it in the socket. A line that is too long to be left
//! there, or that a descriptor cuts in two, is consumed before it is complete.
//!
//! An app that reads nothing fills its outbox, not the daemon; one that says more than anybody can read is read slowly.

mod heard;
mod stream;

use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::daemon::Daemon;
use crate::model::names::RunId;
use crate::node::outbox::Item;

pub(crate) use heard::{Heard, Reply};

/// Lines that the loop may hand over at once.
const ORDERS: usize = 256;

/// The way to a channel's task, which ends with it.
#[derive(Debug)]
pub(crate) struct Wire {
    orders: mpsc::Sender<Item<Arc<OwnedFd>>>,
    task: AbortHandle,
}

impl Wire {
    /// Sends a line, perhaps with a descriptor. False if nobody listens any more, or does not listen for long.
    pub(crate) fn say(&self, line: Vec<u8>, handle: Option<Arc<OwnedFd>>) -> bool {
        self.orders.try_send(Item::new(line, handle, None)).is_ok()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Daemon {
    /// Begins to read the channel of a run.
    pub(crate) fn read_channel(&mut self, run: RunId) {
        let Some(handle) = self.handles.get_mut(&run) else {
            return;
        };
        let Some(channel) = handle.channel.as_ref().map(Arc::clone) else {
            return;
        };
        let (orders, receiver) = mpsc::channel(ORDERS);
        match stream::Stream::new(run, channel, self.mail.clone(), receiver) {
            Ok(stream) => {
                let task = tokio::spawn(stream.serve()).abort_handle();
                handle.wire = Some(Wire { orders, task });
            }
            Err(error) => tracing::error!(%run, "its IPC channel cannot be watched: {error}"),
        }
    }

    /// Sends a line to a run; false if it cannot be told so.
    pub(crate) fn say(&self, run: RunId, line: Vec<u8>) -> bool {
        let wire = self.handles.get(&run).and_then(|handle| handle.wire.as_ref());
        wire.is_some_and(|wire| wire.say(line, None))
    }
}
