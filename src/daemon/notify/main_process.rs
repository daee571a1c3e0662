//! `MAINPID`: the leader of a run becomes another process of its tree, as when a program makes itself a daemon.
//!
//! ```text
//!  leader ── fork ──▶ child ── fork ──▶ grandchild
//!    │  MAINPID=grandchild                  │
//!    ▼                                      │   the keeper is the reaper of all, so it hears of this end, too
//!  ends: no end of the run                  ▼
//!                                         ends: the run's end, with its exit code
//! ```
//!
//! The keeper is told with the process's pidfd, so that a daemon that dies, and an upgrade, change nothing; the record
//! is written anew, so that keeper and daemon may die together.

use std::sync::Arc;

use crate::daemon::Daemon;
use crate::keeper::protocol::ToKeeper;
use crate::model::names::RunId;
use crate::os::{pidfd, procfs};

/// The first version of the protocol in which a keeper can follow another process.
const FOLLOWS: i64 = 3;

impl Daemon {
    /// A process of a run says which one leads it.
    pub(super) fn main_process(&mut self, run: RunId, pid: i32) {
        let Some(handle) = self.handles.get(&run) else { return };
        let (app, slot, former) = (handle.app, handle.slot, handle.pid);
        if former == pid || handle.exit.is_some() {
            return;
        }
        let Ok(process) = pidfd::open(pid) else {
            return self.complain(run, format!("MAINPID={pid}: there is no such process"));
        };
        let belongs = self.run_of_process(pid, pidfd::identity(&process)) == Some(run);
        let alive = pidfd::alive(&process) && !procfs::stat(pid).is_none_or(|stat| stat.is_dead());
        if !belongs || !alive {
            return self.complain(
                run,
                format!("MAINPID={pid}: that process does not belong to this instance"),
            );
        }
        if self.upgrades.keeper.is_none_or(|keeper| keeper.current < FOLLOWS) {
            let version = self.upgrades.keeper_version.clone();
            let message = format!("MAINPID={pid} is not followed: the keeper, clmgr {version}, is too old for that");
            return self.complain(run, message);
        }
        let process = Arc::new(process);
        self.keeper_send(&ToKeeper::Follow { run: run.0, pid }, vec![Arc::clone(&process)]);
        // Now rather than soon: the message is gone, and the old leader may end at once.
        let _later = self.keeper.get_mut().flush();
        if let Some(handle) = self.handles.get_mut(&run) {
            handle.pid = pid;
            handle.pidfd = process;
        }
        let born = self.note_run(run, app, slot, pid);
        if let Some(handle) = self.handles.get_mut(&run) {
            // What its former leader has left is as old as that.
            handle.born = handle.born.min(born);
        }
        self.samples.remove(&run);
        self.core.lead(run, pid);
        self.notice(run, format!("its main process is {pid} now, no longer {former}"));
        self.mail.post(Self::persist);
    }
}
