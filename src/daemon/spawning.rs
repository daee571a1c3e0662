//! From a spec to the order that the keeper gets.

use std::sync::Arc;

use crate::daemon::Daemon;
use crate::daemon::cluster::is_worker;
use crate::daemon::listeners::Lane;
use crate::daemon::listeners::channel_number;
use crate::daemon::notify::wants_notify;
use crate::daemon::ready::pipe_name;
use crate::daemon::runs::Label;
use crate::keeper::protocol::{SpawnRequest, ToKeeper};
use crate::model::env::EnvMap;
use crate::model::listen::{counted, next_number, numbers};
use crate::model::names::{AppId, RunId, Slot};
use crate::model::ostext::OsText;
use crate::model::spec::{AppSpec, Ready};
use crate::os::cstrings::CStrings;
use crate::os::{fds, limits};
use crate::supervise::Input;
use crate::supervise::run::Generation;

/// The variable that marks every process of a run, for finding what its leader leaves behind.
pub(crate) const MARKER: &str = "CLMGR_RUN";

/// The variable that says whose a run is: its app's id, slot and generation.
pub(crate) const PLACE: &str = "CLMGR_INSTANCE";

/// The variable that holds the leader's own pid: its descendants, which inherit it, are told from it by this.
pub(crate) const LEADER: &str = "CLMGR_LEADER";

/// The value of [`PLACE`].
fn place(app: AppId, slot: Slot, generation: Generation) -> String {
    format!("{app}.{slot}.{generation}")
}

/// The other way round.
pub(crate) fn placed(text: &str) -> Option<(AppId, Slot, Generation)> {
    let mut parts = text.split('.');
    let place = (
        AppId(parts.next()?.parse().ok()?),
        parts.next()?.parse().ok()?,
        parts.next()?.parse().ok()?,
    );
    parts.next().is_none().then_some(place)
}

/// Descriptors that the daemon holds of one run, log files included.
const PER_RUN: u64 = 6;
/// Descriptors for everything else: probes, the database's temporary files, a log that is being rotated.
const RESERVE: u64 = 4;

pub(crate) fn strings<'a>(items: impl IntoIterator<Item = &'a OsText>) -> CStrings {
    let mut list = CStrings::new();
    for item in items {
        list.push(item.as_bytes());
    }
    list
}

pub(crate) fn environment(env: &EnvMap) -> CStrings {
    let mut list = CStrings::new();
    for (name, value) in env {
        list.push_parts(&[name.as_bytes(), b"=", value.as_bytes()]);
    }
    list
}

/// The app talks to us over an IPC channel.
pub(crate) fn wants_channel(spec: &AppSpec) -> bool {
    spec.ipc || spec.ready == Ready::Ipc || spec.stop.message || is_worker(spec)
}

impl Daemon {
    /// The value of [`MARKER`] for a run of this home.
    pub(crate) fn marker(&self, run: RunId) -> String {
        format!("{}.{run}", self.home_tag)
    }

    /// The environment of one run.
    pub(crate) fn run_environment(&self, run: RunId, slot: Slot, spec: &AppSpec) -> EnvMap {
        let mut env = spec.environment(slot);
        env.insert(MARKER.into(), self.marker(run).into());
        for foreign in [
            "LISTEN_FDS",
            "LISTEN_PID",
            "LISTEN_FDNAMES",
            "NOTIFY_SOCKET",
            "NODE_CHANNEL_FD",
            "NODE_CHANNEL_SERIALIZATION_MODE",
            "NODE_UNIQUE_ID",
            "WATCHDOG_PID",
            "WATCHDOG_USEC",
        ] {
            if !spec.env.contains_key(foreign) {
                env.remove(foreign);
            }
        }
        self.socket_variables(spec, &mut env);
        if let Some(period) = spec.watchdog {
            env.insert("WATCHDOG_USEC".into(), period.0.saturating_mul(1000).to_string().into());
        }
        if wants_notify(spec) {
            env.insert("NOTIFY_SOCKET".into(), self.home.notify_socket().into());
        }
        env
    }

    /// Whether the descriptors of one more run can be taken in. If they could not, the run would be a process that
    /// nobody holds.
    fn has_room(&self) -> Result<(), String> {
        let free = limits::free_descriptors();
        let kept = crate::daemon::http::free_places() + RESERVE;
        if free > kept + (self.ordered.len() as u64 + 1) * PER_RUN {
            return Ok(());
        }
        Err(format!(
            "the limit of open files of clmgr is nearly reached: {} of {} are left, and some are needed for commands; raise the hard limit it is started with (nofile)",
            free,
            limits::nofile().unwrap_or(u64::MAX)
        ))
    }

    /// Asks the keeper for a process of an app.
    pub(crate) fn spawn(&mut self, run: RunId, app: AppId, slot: Slot, spec: &Arc<AppSpec>) {
        if self.handles.contains_key(&run) {
            // The keeper has it already: the order was given by a daemon before this one.
            return;
        }
        if self.core.is_revoked(run) {
            self.mail
                .input(Input::SpawnFailed(run, "not wanted any more".to_owned()));
            return;
        }
        if let Err(why) = self.has_room() {
            self.mail.input(Input::SpawnStarved(run, why));
            return;
        }
        let generation = self
            .core
            .owner(run)
            .and_then(|app| app.runs.get(&run))
            .map_or(0, |run| run.generation);
        let second = self.choose_lane(run, app, slot);
        let label = serde_json::to_vec(&Label {
            app: Some(app),
            slot,
            generation,
            second,
        })
        .unwrap_or_default();
        let mut passed = match self.sockets_for(app, Lane { slot, second }, spec) {
            Ok(sockets) => sockets,
            Err(why) => {
                self.mail.input(Input::SpawnFailed(run, why));
                return;
            }
        };
        let stored = self.stored_for(app, slot, spec);
        let mut env = self.run_environment(run, slot, spec);
        env.insert(PLACE.into(), place(app, slot, generation).into());
        Self::socket_numbers(spec, &mut env);
        self.channel_variables(run, slot, spec, &mut env);
        self.stored_numbers(app, slot, spec, &mut env);
        let mut request = SpawnRequest::new(
            run.0,
            strings(&self.arguments(spec)),
            environment(&env),
            spec.cwd.as_bytes(),
        );
        request.label = label;
        request.pid_vars.push(LEADER.to_owned());
        if spec.watchdog.is_some() {
            request.pid_vars.push("WATCHDOG_PID".to_owned());
        }
        request.stdin = !spec.listen.iter().any(|entry| entry.stdin);
        request.channel = wants_channel(spec).then(|| channel_number(spec));
        request.extra = numbers(&spec.listen);
        request.extra.extend((next_number(&spec.listen)..).take(stored.len()));
        if counted(&spec.listen).next().is_some() || !stored.is_empty() {
            request.pid_vars.push("LISTEN_PID".to_owned());
        }
        passed.extend(stored);
        if let Ready::Fd(number) = spec.ready {
            match fds::pipe() {
                Ok((reader, writer)) => {
                    // As with output: if keeper and daemon die together, the write is no broken pipe.
                    let writer = fds::reopen_both_ways(&writer).unwrap_or(writer);
                    request.extra.push(number);
                    passed.push(Arc::new(writer));
                    let reader = Arc::new(reader);
                    self.keeper_send(&ToKeeper::Store { name: pipe_name(run) }, vec![Arc::clone(&reader)]);
                    self.ready_pipes.insert(run, reader);
                }
                Err(error) => {
                    let why = format!("cannot make the readiness pipe: {}", crate::daemon::text::cause(&error));
                    self.mail.input(Input::SpawnStarved(run, why));
                    return;
                }
            }
        }
        self.ordered.insert(run);
        self.keeper_send(&ToKeeper::Spawn(request), passed);
    }
}

#[cfg(test)]
mod tests {
    use super::{place, placed};
    use crate::model::names::AppId;

    #[test]
    fn a_place_is_read_as_it_was_written() {
        assert_eq!(placed(&place(AppId(7), 3, 12)), Some((AppId(7), 3, 12)));
        for rubbish in ["", "7", "7.3", "7.3.12.1", "a.3.12", "7.-1.12", "7.3."] {
            assert_eq!(placed(rubbish), None, "{rubbish}");
        }
    }
}
