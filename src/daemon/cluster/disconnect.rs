//! The end of a worker: it is told over its channel, so that it finishes what it has begun.

use std::time::Duration;

use crate::daemon::Daemon;
use crate::daemon::channel::Wire;
use crate::daemon::cluster::is_worker;
use crate::model::names::RunId;
use crate::model::spec::AppSpec;
use crate::node::{channel, message};
use crate::os::pidfd::{self, Scope};
use crate::supervise::run::Phase;

/// A worker without the preload that has disconnected and is still there after this lives because of something that
/// only a signal ends.
const PATIENCE: Duration = Duration::from_secs(1);

/// It is asked to stop by a message, not by a signal.
pub(crate) fn by_message(spec: &AppSpec) -> bool {
    spec.stop.message || is_worker(spec)
}

impl Daemon {
    /// Asks a run to stop over its channel; false if it has none, or does not read it any more.
    pub(crate) fn ask_by_message(&self, run: RunId, spec: &AppSpec) -> bool {
        let line = if spec.stop.message {
            channel::line(&serde_json::Value::from("shutdown"))
        } else if is_worker(spec) {
            message::disconnect()
        } else {
            return false;
        };
        self.say(run, line)
    }

    /// An app has closed its channel. A worker that was told to does it when it has served everything: if it has no
    /// preload to end it, this does.
    pub(crate) fn channel_closed(&mut self, run: RunId) {
        if let Some(handle) = self.handles.get_mut(&run) {
            handle.wire = None::<Wire>;
        }
        self.connections_back(run);
        let Some(spec) = self.spec_of(run).filter(|spec| is_worker(spec) && !spec.preload) else {
            return;
        };
        let mail = self.mail.clone();
        tokio::spawn(async move {
            tokio::time::sleep(PATIENCE).await;
            mail.post(move |daemon| {
                let record = daemon.core.owner(run).and_then(|app| app.runs.get(&run));
                let is_stopping = record.is_some_and(|record| record.phase == Phase::Stopping);
                if let (true, Some(handle)) = (is_stopping, daemon.handles.get(&run)) {
                    // It may have ended meanwhile.
                    let _gone = pidfd::signal(&handle.pidfd, spec.stop.signal, Scope::Process);
                }
            });
        });
    }
}
