//! Stopping process trees: ask, kill, and make sure that nothing is left.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::daemon::Daemon;
use crate::daemon::cluster::by_message;
use crate::daemon::helper::HelperPlan;
use crate::daemon::mail::Mail;
use crate::daemon::spawning::MARKER;
use crate::model::duration::Millis;
use crate::model::event::EventKind;
use crate::model::names::RunId;
use crate::model::time::Moment;
use crate::os::clock;
use crate::os::pidfd::{self, Scope};
use crate::os::tree::{self, LeftoverQuery, Member};
use crate::supervise::Input;

/// How long to wait for killed processes before looking again for new ones.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// For those whose spec is forgotten.
const SIGTERM: i32 = 15;
/// How long killed processes may be there before they are told of: soon enough for the answer to a command, which
/// comes after 10 s, to refer to it.
const PATIENCE: Millis = Millis(7_000);
/// No process.
const NOBODY: i32 = -1;
/// The same for processes that do not die, because they are blocked inside the kernel.
const LOOK_SELDOM: Duration = Duration::from_secs(2);

impl Daemon {
    /// Asks a run to stop: by its message, or by its signal to the group and to descendants outside it.
    pub(crate) fn stop_now(&mut self, run: RunId) {
        let Some(spec) = self.spec_of(run) else { return };
        let told = self.ask_by_message(run, &spec);
        let Some(handle) = self.handles.get_mut(&run) else {
            return;
        };
        if spec.stop.treekill {
            handle.members = tree::descendants(handle.pid);
        }
        if told {
            return;
        }
        let scope = if spec.stop.treekill {
            handle.scope()
        } else {
            Scope::Process
        };
        // ESRCH: it is gone, and its exit is on the way.
        let _gone = pidfd::signal(&handle.pidfd, spec.stop.signal, scope);
        if spec.stop.treekill {
            for member in outside(handle.pid, &handle.members) {
                let _gone = pidfd::signal(&member.fd, spec.stop.signal, Scope::Process);
            }
        }
    }

    /// SIGKILL to everything of a run.
    pub(crate) fn kill(&mut self, run: RunId) {
        let treekill = self.spec_of(run).is_none_or(|spec| spec.stop.treekill);
        let Some(handle) = self.handles.get_mut(&run) else {
            return;
        };
        if treekill {
            handle.members.extend(tree::descendants(handle.pid));
            let _gone = pidfd::signal(&handle.pidfd, 9, handle.scope());
            for member in &handle.members {
                let _gone = pidfd::signal(&member.fd, 9, Scope::Process);
            }
        } else {
            let _gone = pidfd::signal(&handle.pidfd, 9, Scope::Process);
        }
    }

    /// The leader is gone: waits for its descendants until `until`, kills what is left then, and reports. Those that
    /// have not been asked to stop yet, because they were nobody's children any more, are asked when they are found.
    pub(crate) fn sweep(&mut self, run: RunId, until: Moment) {
        let members = self
            .handles
            .get_mut(&run)
            .map(|handle| std::mem::take(&mut handle.members))
            .unwrap_or_default();
        let spec = self.spec_of(run);
        // A message goes to the leader alone.
        let by_signal = spec.as_ref().is_some_and(|spec| !by_message(spec));
        let asked = members.iter().filter(|_| by_signal).map(|member| member.pid).collect();
        // A run that died with its keeper has no handle, and its pid may be another's by now: only the marker tells.
        let (leader, pipes, born) = match self.handles.get(&run) {
            Some(handle) => (handle.pid, handle.pipes.clone(), handle.born),
            None => (NOBODY, Vec::new(), 0),
        };
        let search = Search {
            leader,
            pipes,
            marker: format!("{MARKER}={}", self.marker(run)).into_bytes(),
            reaper: self.keeper_pid,
            anywhere: born < self.keeper_born,
            known: Arc::new(self.known_pids()),
            stop_signal: spec.map_or(SIGTERM, |spec| spec.stop.signal),
            asked,
        };
        let found = search.all(members);
        if found.is_empty() {
            self.input(Input::Swept(run));
            return;
        }
        self.input(Input::LeftBehind(run));
        let mail = self.mail.clone();
        tokio::spawn(async move { search.empty(found, until, run, &mail).await });
    }

    /// What a run left is blocked inside the kernel.
    fn undying(&mut self, run: RunId, pids: &[i32]) {
        let whose = self
            .core
            .owner(run)
            .and_then(|app| Some(format!("{}:{}", app.name(), app.runs.get(&run)?.slot)));
        let pids: Vec<String> = pids.iter().map(i32::to_string).collect();
        let message = format!(
            "{}: it ended, but what it left does not die of SIGKILL (pid {}): nothing takes its place until that is gone",
            whose.unwrap_or_else(|| run.to_string()),
            pids.join(", ")
        );
        tracing::error!("{message}");
        self.hub.announce(clock::wall(), EventKind::Killed, message);
    }

    /// Every process that is somebody's leader, and our own.
    fn known_pids(&self) -> BTreeSet<i32> {
        let own = i32::try_from(std::process::id()).unwrap_or(0);
        let mut known: BTreeSet<i32> = self
            .handles
            .values()
            .filter(|handle| handle.exit.is_none())
            .map(|handle| handle.pid)
            .collect();
        known.insert(own);
        known.insert(self.keeper_pid);
        known
    }

    /// Runs `pre_stop` for a run.
    pub(crate) fn pre_stop(&mut self, run: RunId) {
        let (Some(spec), Some(handle)) = (self.spec_of(run), self.handles.get(&run)) else {
            self.mail.input(Input::PreStopped(run));
            return;
        };
        let mut env = self.run_environment(run, handle.slot, &spec);
        env.remove(MARKER);
        env.insert("CLMGR_PID".into(), handle.pid.to_string().into());
        let patience = spec.stop.kill_timeout.to_std();
        let (helper, ended) = self.start_helper(HelperPlan {
            argv: spec.stop.pre_stop.clone(),
            env,
            cwd: spec.cwd.clone(),
            input: None,
        });
        let mail = self.mail.clone();
        tokio::spawn(async move {
            let in_time = tokio::time::timeout(patience, ended).await;
            mail.post(move |daemon| {
                if in_time.is_err() {
                    daemon.end_helper(helper);
                }
                if let Ok(Ok(Err(why))) = &in_time {
                    tracing::warn!(%run, "pre_stop could not be started: {why}");
                }
                daemon.input(Input::PreStopped(run));
            });
        });
    }
}

/// Members that a signal to the leader's group does not reach.
fn outside(leader: i32, members: &[Member]) -> impl Iterator<Item = &Member> {
    members
        .iter()
        .filter(move |member| crate::os::procfs::stat(member.pid).is_some_and(|stat| stat.pgrp != leader))
}

struct Search {
    leader: i32,
    marker: Vec<u8>,
    pipes: Vec<u64>,
    reaper: i32,
    anywhere: bool,
    known: Arc<BTreeSet<i32>>,
    stop_signal: i32,
    /// Pids of those that were asked to stop.
    asked: BTreeSet<i32>,
}

impl Search {
    fn leftovers(&self) -> Vec<Member> {
        tree::leftovers(&LeftoverQuery {
            leader: self.leader,
            run_marker: &self.marker,
            pipes: &self.pipes,
            reaper: self.reaper,
            anywhere: self.anywhere,
            known: &|pid| self.known.contains(&pid),
        })
    }

    /// What is left now: known members that live, and what can be found.
    fn all(&self, known: Vec<Member>) -> Vec<Member> {
        let mut all: Vec<Member> = known.into_iter().filter(|member| pidfd::alive(&member.fd)).collect();
        for member in self.leftovers() {
            if all.iter().all(|known| known.pid != member.pid) {
                all.push(member);
            }
        }
        all
    }

    fn ask(&mut self, members: &[Member]) {
        for member in members {
            if self.asked.insert(member.pid) {
                let _gone = pidfd::signal(&member.fd, self.stop_signal, Scope::Process);
            }
        }
    }

    async fn empty(mut self, mut members: Vec<Member>, until: Moment, run: RunId, mail: &Mail) {
        let grace = Duration::from_nanos(until.0.saturating_sub(clock::monotonic().0));
        // Without grace nobody is asked first.
        let in_time = !grace.is_zero() && {
            let patient = async {
                while !members.is_empty() {
                    self.ask(&members);
                    gone(&members).await;
                    members = self.all(std::mem::take(&mut members));
                }
            };
            tokio::time::timeout(grace, patient).await.is_ok()
        };
        if !in_time {
            let mut pause = LOOK_AGAIN;
            let mut complain_at = Some(clock::monotonic().after(PATIENCE));
            while !members.is_empty() {
                if complain_at.is_some_and(|at| at <= clock::monotonic()) {
                    complain_at = None;
                    let pids: Vec<i32> = members.iter().map(|member| member.pid).collect();
                    mail.post(move |daemon| daemon.undying(run, &pids));
                }
                for member in &members {
                    let _gone = pidfd::signal(&member.fd, 9, Scope::Process);
                }
                // Whoever forked meanwhile is found by looking again.
                let _late = tokio::time::timeout(pause, gone(&members)).await;
                pause = (pause * 2).min(LOOK_SELDOM);
                members = self.all(std::mem::take(&mut members));
            }
        }
        mail.input(Input::Swept(run));
    }
}

/// Waits until all of these have ended.
async fn gone(members: &[Member]) {
    for member in members {
        if let Ok(fd) = member.fd.try_clone()
            && let Ok(watch) = crate::os::watch::for_reading(fd)
        {
            // A pidfd becomes readable when its process ends.
            let _ended = watch.readable().await;
        }
    }
}
