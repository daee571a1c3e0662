//! What the loop makes of what was read.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::daemon::Daemon;
use crate::model::names::RunId;
use crate::node::message::FromApp;

/// A line to be sent, perhaps with a descriptor.
pub(crate) type Reply = (Vec<u8>, Option<Arc<OwnedFd>>);

/// What became of messages.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// Each with the place of the line that it answers.
    pub(crate) replies: Vec<(u64, Reply)>,
    /// Resolves when what they have changed is written down.
    pub(crate) written: Option<oneshot::Receiver<()>>,
}

impl Daemon {
    /// Acts on messages of a run, each with its place in the stream.
    pub(crate) fn heard_of(&mut self, run: RunId, messages: Vec<(u64, FromApp)>) -> Heard {
        let mut heard = Heard::default();
        let mut changed = false;
        for (origin, message) in messages {
            match message {
                FromApp::App(value) => changed |= self.app_message(run, value),
                FromApp::Handle { .. } | FromApp::HandleAck | FromApp::HandleNack | FromApp::Internal => {}
                FromApp::Online
                | FromApp::QueryServer { .. }
                | FromApp::Listening { .. }
                | FromApp::Close { .. }
                | FromApp::ExitedAfterDisconnect { .. }
                | FromApp::Answer { .. }
                | FromApp::Recycle { .. } => {
                    let (reply, news) = self.worker_message(run, message);
                    heard.replies.extend(reply.map(|reply| (origin, reply)));
                    changed |= news;
                }
            }
        }
        if changed {
            self.persist();
            let (sender, receiver) = oneshot::channel();
            self.store.write(Box::new(move |_| {
                // The reader may have gone with its run.
                let _gone = sender.send(());
            }));
            heard.written = Some(receiver);
        }
        heard
    }
}
