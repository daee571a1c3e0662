//! Readiness by `READY=1` on `NOTIFY_SOCKET`: one socket for all apps, the sender known by the kernel.

use std::collections::BTreeMap;
use std::os::fd::AsFd;

use crate::daemon::mail::Mail;
use crate::model::duration::Millis;
use crate::model::names::RunId;
use crate::os::notify::NotifySocket;
use crate::os::procfs;
use crate::supervise::Input;

/// Deepest tree in which a sender is looked for.
const DEPTH: usize = 32;

/// The server side.
#[derive(Debug)]
pub(crate) struct NotifyServer;

impl NotifyServer {
    /// Reads the socket as long as the daemon lives.
    pub(crate) async fn run(socket: NotifySocket, mail: Mail) {
        let Ok(watched) = socket.as_fd().try_clone_to_owned() else {
            return;
        };
        let Ok(watch) = crate::os::watch::for_reading(watched) else {
            return;
        };
        loop {
            let Ok(mut guard) = watch.readable().await else { return };
            guard.clear_ready();
            while let Ok(Some((pid, assignments))) = socket.recv() {
                mail.post(move |daemon| {
                    let leaders: BTreeMap<i32, RunId> =
                        daemon.handles.iter().map(|(run, handle)| (handle.pid, *run)).collect();
                    let Some(run) = owner(&leaders, pid) else { return };
                    for (name, value) in &assignments {
                        match (name.as_str(), value.as_str()) {
                            ("READY", "1") => daemon.input(Input::Ready(run)),
                            ("WATCHDOG", "1") => daemon.heartbeat(run),
                            ("WATCHDOG", "trigger") => daemon.watchdog_trigger(run),
                            ("WATCHDOG_USEC", micros) => {
                                if let Ok(micros) = micros.parse::<u64>() {
                                    daemon.watchdog_changed(run, Millis(micros.div_ceil(1000)));
                                }
                            }
                            _ => {}
                        }
                    }
                });
            }
        }
    }
}

/// The run a process belongs to: its own, its session's, or that of one of its ancestors.
fn owner(leaders: &BTreeMap<i32, RunId>, pid: i32) -> Option<RunId> {
    let mut pid = pid;
    for _ in 0..DEPTH {
        if let Some(run) = leaders.get(&pid) {
            return Some(*run);
        }
        let stat = procfs::stat(pid)?;
        if let Some(run) = leaders.get(&stat.session) {
            return Some(*run);
        }
        pid = stat.ppid;
    }
    None
}
