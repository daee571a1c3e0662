//! Taking stored descriptors over: from the keeper, or from a living instance where keeper and daemon died together.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::Kept;
use crate::daemon::Daemon;
use crate::keeper::protocol::ToKeeper;
use crate::model::event::EventKind;
use crate::model::names::{AppId, Slot};
use crate::os::{clock, fds, pidfd, procfs};
use crate::supervise::stored::StoredFd;

/// How their names in the keeper begin.
pub(crate) const PREFIX: &str = "fds/";

/// What the keeper calls one: `fds/7/0/3/poll/name`, or `keep` where it stays whatever happens to its other end.
pub(super) fn stored_name(app: AppId, slot: Slot, known: &StoredFd) -> String {
    let poll = if known.poll { "poll" } else { "keep" };
    format!("{PREFIX}{}/{slot}/{}/{poll}/{}", app.0, known.number, known.name)
}

/// The other way round, without what only the file tells.
fn read_name(stored: &str) -> Option<(AppId, Slot, StoredFd)> {
    let mut parts = stored.strip_prefix(PREFIX)?.splitn(5, '/');
    let app = AppId(parts.next()?.parse().ok()?);
    let slot = parts.next()?.parse().ok()?;
    let number = parts.next()?.parse().ok()?;
    let poll = match parts.next()? {
        "poll" => true,
        "keep" => false,
        _ => return None,
    };
    let known = StoredFd::new(number, parts.next()?, poll, (0, 0));
    Some((app, slot, known))
}

impl Daemon {
    /// Before anything is started, so that it is given what there is.
    pub(crate) fn recover_fd_store(&mut self, stored: BTreeMap<String, OwnedFd>) {
        for (name, fd) in stored {
            match read_name(&name).filter(|(app, ..)| self.core.apps.contains_key(app)) {
                Some((app, slot, mut known)) => {
                    known.file = fds::file_id(&fd).unwrap_or_default();
                    self.core.leave_descriptor(app, slot, known.clone());
                    let kept = self.notify.store.slots.entry((app, slot)).or_default();
                    kept.push(Kept {
                        known,
                        fd: Arc::new(fd),
                    });
                }
                None => self.keeper_send(&ToKeeper::Drop { name }, Vec::new()),
            }
        }
        for kept in self.notify.store.slots.values_mut() {
            kept.sort_by_key(|one| one.known.number);
        }
        let apps: Vec<AppId> = self.core.apps.keys().copied().collect();
        for app in apps {
            self.recover_missing(app);
            self.tend_fd_store(app);
        }
    }

    /// What the record names and the keeper has not: it died together with the daemon.
    fn recover_missing(&mut self, app: AppId) {
        let Some(record) = self.core.apps.get(&app) else { return };
        let named = record.stored.clone();
        let name = record.name().to_string();
        for (slot, list) in named {
            for known in list {
                let kept = self.notify.store.slots.get(&(app, slot)).into_iter().flatten();
                if kept.into_iter().any(|one| one.known.number == known.number) {
                    continue;
                }
                self.core.forget_descriptor(app, slot, known.number);
                match self.take_back(app, slot, &known) {
                    Some(fd) => {
                        tracing::info!(
                            app = name,
                            slot,
                            "the stored descriptor `{}` was taken back",
                            known.name
                        );
                        self.keep_descriptor(app, slot, known, fd);
                    }
                    None => {
                        let message = format!(
                            "the descriptor `{}` that {name}:{slot} has stored is lost: keeper and daemon died together, and \
                             the instance does not have it open any more",
                            known.name
                        );
                        tracing::warn!("{message}");
                        self.hub.announce(clock::wall(), EventKind::ListenerLost, message);
                    }
                }
            }
        }
    }

    /// A copy from a living process of the slot.
    fn take_back(&self, app: AppId, slot: Slot, known: &StoredFd) -> Option<OwnedFd> {
        if known.file == (0, 0) {
            return None;
        }
        let living = self.handles.values().filter(|handle| {
            let same = handle.app == app && handle.slot == slot;
            same && handle.exit.is_none() && pidfd::alive(&handle.pidfd)
        });
        living
            .flat_map(|handle| {
                procfs::descriptors(handle.pid)
                    .into_iter()
                    .map(move |number| (handle, number))
            })
            .filter(|(handle, number)| procfs::file_of(handle.pid, *number) == Some(known.file))
            .find_map(|(handle, number)| {
                let fd = pidfd::descriptor(&handle.pidfd, number).ok()?;
                (fds::file_id(&fd).ok() == Some(known.file)).then_some(fd)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::{read_name, stored_name};
    use crate::model::names::AppId;
    use crate::supervise::stored::StoredFd;

    #[test]
    fn a_name_is_read_as_it_was_written() {
        for (name, poll) in [("db", true), ("a/b c", false), ("stored", true)] {
            let known = StoredFd::new(12, name, poll, (0, 0));
            let text = stored_name(AppId(7), 3, &known);
            assert_eq!(read_name(&text), Some((AppId(7), 3, known)), "{text}");
        }
        for rubbish in [
            "fds/",
            "fds/1/2",
            "fds/1/2/3/maybe/x",
            "fds/a/2/3/poll/x",
            "listen/1/x",
            "fds/1/2/3/poll",
        ] {
            assert_eq!(read_name(rubbish), None, "{rubbish}");
        }
    }
}
