//! Helper processes: readiness commands, `pre_stop`, alerts. Children of the keeper like everything else.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::daemon::Daemon;
use crate::daemon::runs::{FIRST_HELPER, Label};
use crate::daemon::spawning::{environment, strings};
use crate::keeper::protocol::{SpawnRequest, ToKeeper};
use crate::model::env::EnvMap;
use crate::model::exit::Exit;
use crate::model::names::RunId;
use crate::model::ostext::OsText;
use crate::os::pidfd::{self, Scope};

/// How a helper ended, or why it could not be started.
pub(crate) type Ended = Result<Exit, String>;

/// A helper that runs.
#[derive(Debug)]
pub(crate) struct Helper {
    done: Option<oneshot::Sender<Ended>>,
    pub pidfd: Option<Arc<OwnedFd>>,
}

/// What to run.
#[derive(Debug)]
pub(crate) struct HelperPlan {
    pub argv: Vec<OsText>,
    pub env: EnvMap,
    pub cwd: OsText,
    /// What it reads from standard input.
    pub input: Option<OwnedFd>,
}

impl Daemon {
    /// Starts a helper. The receiver hears how it ended; [`Daemon::end_helper`] ends it early.
    pub(crate) fn start_helper(&mut self, plan: HelperPlan) -> (RunId, oneshot::Receiver<Ended>) {
        self.start_helper_with(plan, Vec::new())
    }

    /// The same with these descriptors under these numbers.
    pub(crate) fn start_helper_with(
        &mut self,
        plan: HelperPlan,
        extra: Vec<(i32, OwnedFd)>,
    ) -> (RunId, oneshot::Receiver<Ended>) {
        let run = RunId(self.next_helper);
        self.next_helper += 1;
        let (sender, receiver) = oneshot::channel();
        let mut request = SpawnRequest::new(run.0, strings(&plan.argv), environment(&plan.env), plan.cwd.as_bytes());
        request.label = serde_json::to_vec(&Label {
            app: None,
            slot: 0,
            generation: 0,
            second: false,
        })
        .unwrap_or_default();
        request.capture = false;
        let mut passed = Vec::new();
        if let Some(input) = plan.input {
            request.extra.push(0);
            passed.push(Arc::new(input));
        }
        for (number, fd) in extra {
            request.extra.push(number);
            passed.push(Arc::new(fd));
        }
        self.helpers.insert(
            run,
            Helper {
                done: Some(sender),
                pidfd: None,
            },
        );
        self.keeper_send(&ToKeeper::Spawn(request), passed);
        (run, receiver)
    }

    /// The keeper started it.
    pub(crate) fn helper_spawned(&mut self, run: RunId, pidfd: Option<OwnedFd>) {
        match self.helpers.get_mut(&run) {
            Some(helper) => helper.pidfd = pidfd.map(Arc::new),
            None => {
                // Given up before it began.
                if let Some(fd) = pidfd {
                    end(&fd);
                }
            }
        }
    }

    /// It ended, or could not be started.
    pub(crate) fn helper_ended(&mut self, run: RunId, how: Ended) {
        self.keeper_send(&ToKeeper::Release { run: run.0 }, Vec::new());
        if let Some(sender) = self.helpers.remove(&run).and_then(|mut helper| helper.done.take()) {
            // Whoever started it may have lost interest.
            let _gone = sender.send(how);
        }
    }

    /// Ends a helper and all of its process group.
    pub(crate) fn end_helper(&mut self, run: RunId) {
        if let Some(fd) = self.helpers.remove(&run).and_then(|helper| helper.pidfd) {
            end(&fd);
        }
    }

    /// The first number for helpers of this daemon: no other daemon of this boot used it.
    pub(crate) fn first_helper() -> u64 {
        FIRST_HELPER + crate::os::clock::monotonic().0 / 1000
    }
}

fn end(fd: &OwnedFd) {
    // It may be gone already, which is what we want.
    let _gone = pidfd::signal(fd, 9, Scope::Group);
}
