//! Readiness by a byte on a descriptor, or its closing.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use crate::daemon::mail::Mail;
use crate::model::names::RunId;
use crate::os::poll;
use crate::supervise::Input;

/// Under this name the keeper holds it.
pub(crate) fn name(run: RunId) -> String {
    format!("ready/{run}")
}

/// The run of a [`name`].
pub(super) fn run_of(name: &str) -> Option<RunId> {
    name.strip_prefix("ready/")?.parse().ok().map(RunId)
}

/// A process closes its files a moment before its end can be seen.
const DYING: Duration = Duration::from_millis(200);

/// Until something can be read, or the other end is closed by a process that lives on.
pub(super) async fn written(mail: Mail, run: RunId, reader: Arc<OwnedFd>, process: Arc<OwnedFd>) {
    if let Ok(watch) = crate::os::watch::for_reading(Arc::clone(&reader))
        && watch.readable().await.is_ok()
        && (poll::has_bytes(&reader) || lives_on(process).await)
    {
        mail.input(Input::Ready(run));
    }
    mail.post(move |daemon| daemon.drop_ready_pipe(run));
}

/// It is not ending.
async fn lives_on(process: Arc<OwnedFd>) -> bool {
    let Ok(watch) = crate::os::watch::for_reading(process) else {
        return true;
    };
    tokio::time::timeout(DYING, watch.readable()).await.is_err()
}
