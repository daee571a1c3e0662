//! Readiness by `"ready"` over the IPC channel. The channel is read as long as the run lives, so that an app
//! that sends other messages is never blocked.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::sync::Arc;

use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

use crate::daemon::Daemon;
use crate::daemon::mail::Mail;
use crate::model::names::RunId;
use crate::node::channel::Messages;
use crate::node::pmx;
use crate::supervise::Input;

impl Daemon {
    /// Begins to read the channel of a run.
    pub(crate) fn read_channel(&mut self, run: RunId) {
        let Some(handle) = self.handles.get_mut(&run) else {
            return;
        };
        let Some(channel) = handle.channel.as_ref().map(Arc::clone) else {
            return;
        };
        let task = tokio::spawn(read(self.mail.clone(), run, channel));
        handle.tasks.push(task.abort_handle());
    }
}

async fn read(mail: Mail, run: RunId, channel: Arc<OwnedFd>) {
    let Ok(own) = channel.try_clone() else { return };
    let stream = StdStream::from(own);
    if stream.set_nonblocking(true).is_err() {
        return;
    }
    let Ok(mut stream) = UnixStream::from_std(stream) else {
        return;
    };
    let mut messages = Messages::default();
    let mut buffer = [0; 4096];
    while let Ok(count) = stream.read(&mut buffer).await {
        if count == 0 {
            return;
        }
        for message in messages.push(&buffer[..count]) {
            if message == "ready" {
                mail.input(Input::Ready(run));
            } else if let Some(message) = pmx::parse(&message) {
                mail.post(move |daemon| daemon.custom_message(run, message));
            }
        }
    }
}
