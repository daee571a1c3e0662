//! How everything outside the loop talks to it: a closure that is run on the loop, in order of arrival.

use tokio::sync::{mpsc, oneshot};

use crate::daemon::Daemon;
use crate::supervise::Input;

/// One thing to do on the loop.
pub(crate) type Letter = Box<dyn FnOnce(&mut Daemon) + Send>;

/// The way to the loop. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Mail(mpsc::UnboundedSender<Letter>);

impl Mail {
    /// A mailbox: the way in and the way out.
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Letter>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    /// Runs this on the loop soon. Nothing happens when the loop has ended.
    pub(crate) fn post(&self, act: impl FnOnce(&mut Daemon) + Send + 'static) {
        // A closed mailbox means that the daemon is leaving; then nobody needs this any more.
        let _gone = self.0.send(Box::new(act));
    }

    /// Hands an input to the core soon.
    pub(crate) fn input(&self, input: Input) {
        self.post(move |daemon| daemon.input(input));
    }

    /// Runs this on the loop and returns what it said; `None` when the daemon is leaving.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Daemon) -> T + Send + 'static,
    ) -> Option<T> {
        let (sender, receiver) = oneshot::channel();
        self.post(move |daemon| {
            // The client may have gone away.
            let _gone = sender.send(act(daemon));
        });
        receiver.await.ok()
    }
}
