//! An app's own messages over its IPC channel.

use crate::daemon::Daemon;
use crate::model::names::RunId;
use crate::model::spec::Ready;
use crate::node::pmx;
use crate::supervise::Input;

impl Daemon {
    /// Acts on a message of an app that is not Node's own. True if something changed that a daemon after this one has
    /// to know.
    pub(crate) fn app_message(&mut self, run: RunId, message: serde_json::Value) -> bool {
        let is_ready = message == "ready" && self.spec_of(run).is_some_and(|spec| spec.ready == Ready::Ipc);
        if is_ready {
            self.input(Input::Ready(run));
        } else if let Some(message) = pmx::parse(&message) {
            self.custom_message(run, message);
        }
        is_ready
    }
}
