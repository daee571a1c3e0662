//! Readiness by a byte on a descriptor, or its closing.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::daemon::mail::Mail;
use crate::model::names::RunId;
use crate::supervise::Input;

/// Under this name the keeper holds it.
pub(crate) fn name(run: RunId) -> String {
    format!("ready/{run}")
}

/// The run of a [`name`].
pub(super) fn run_of(name: &str) -> Option<RunId> {
    name.strip_prefix("ready/")?.parse().ok().map(RunId)
}

/// Until something can be read, or the other end is closed.
pub(super) async fn written(mail: Mail, run: RunId, reader: Arc<OwnedFd>) {
    if let Ok(watch) = crate::os::watch::for_reading(reader)
        && watch.readable().await.is_ok()
    {
        mail.input(Input::Ready(run));
    }
    mail.post(move |daemon| daemon.drop_ready_pipe(run));
}
