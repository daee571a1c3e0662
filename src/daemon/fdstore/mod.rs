//! Descriptors that an instance has left with the manager (`FDSTORE=1`) for the next process in its slot.
//!
//! ```text
//!  FDSTORE=1 ─▶ kept here and by the keeper ─▶ handed to every next process of the slot, after its sockets
//!     FDSTOREREMOVE=1, or its other end is gone ─▶ closed
//!     the app was stopped, or the slot is gone ─▶ all of the slot are closed
//! ```
//!
//! The keeper's copies outlive the daemon, the daemon's the keeper. Where both die at once, what an instance still has
//! open is taken back from it ([`recover`]).

pub(crate) mod recover;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::daemon::Daemon;
use crate::keeper::protocol::ToKeeper;
use crate::model::env::EnvMap;
use crate::model::names::{AppId, RunId, Slot};
use crate::model::spec::AppSpec;
use crate::os::{fds, limits};
use crate::supervise::stored::StoredFd;

/// Descriptors of this process that apps may not use up by leaving theirs here.
const RESERVE: u64 = 64;

/// One of them.
#[derive(Debug)]
struct Kept {
    known: StoredFd,
    fd: Arc<OwnedFd>,
}

/// All of them, in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct FdStore {
    slots: BTreeMap<(AppId, Slot), Vec<Kept>>,
}

impl FdStore {
    /// How many a slot has.
    pub(crate) fn count(&self, app: AppId, slot: Slot) -> u32 {
        let kept = self.slots.get(&(app, slot)).map_or(0, Vec::len);
        u32::try_from(kept).unwrap_or(u32::MAX)
    }

    /// Each with its name in the keeper.
    pub(crate) fn all(&self) -> impl Iterator<Item = (String, Arc<OwnedFd>)> {
        let slots = self.slots.iter();
        slots.flat_map(|((app, slot), kept)| {
            kept.iter()
                .map(|one| (recover::stored_name(*app, *slot, &one.known), Arc::clone(&one.fd)))
        })
    }

    /// Those that a process of this spec is given.
    fn handed(&self, app: AppId, slot: Slot, spec: &AppSpec) -> impl Iterator<Item = &Kept> {
        let kept = self.slots.get(&(app, slot)).into_iter().flatten();
        kept.take(usize::try_from(spec.fd_store).unwrap_or(0))
    }
}

impl Daemon {
    /// `FDSTORE=1`.
    pub(crate) fn store_descriptors(&mut self, run: RunId, name: &str, poll: bool, fds: Vec<OwnedFd>) {
        let (Some(spec), Some(handle)) = (self.spec_of(run), self.handles.get(&run)) else {
            return;
        };
        let (app, slot) = (handle.app, handle.slot);
        if fds.is_empty() {
            return self.complain(run, format!("FDSTORE=1 (FDNAME={name}) came without a descriptor"));
        }
        self.close_hung_up(app, slot);
        for fd in fds {
            let kept = self.notify.store.slots.entry((app, slot)).or_default();
            if kept.iter().any(|one| fds::same_file(&*one.fd, &fd)) {
                continue;
            }
            let full = kept.len() >= usize::try_from(spec.fd_store).unwrap_or(0);
            if full || limits::free_descriptors() < RESERVE {
                let why = if full {
                    format!("`fd_store` allows {}", spec.fd_store)
                } else {
                    "the limit of open files of clmgr is nearly reached".to_owned()
                };
                return self.complain(run, format!("the descriptor `{name}` was not stored: {why}"));
            }
            let number = kept.last().map_or(0, |last| last.known.number + 1);
            let known = StoredFd::new(number, name, poll, fds::file_id(&fd).unwrap_or_default());
            self.keep_descriptor(app, slot, known, fd);
        }
    }

    /// Takes one into the books, and gives the keeper a copy.
    fn keep_descriptor(&mut self, app: AppId, slot: Slot, known: StoredFd, fd: OwnedFd) {
        let fd = Arc::new(fd);
        let name = recover::stored_name(app, slot, &known);
        self.keeper_send(&ToKeeper::Store { name }, vec![Arc::clone(&fd)]);
        self.core.leave_descriptor(app, slot, known.clone());
        self.notify
            .store
            .slots
            .entry((app, slot))
            .or_default()
            .push(Kept { known, fd });
    }

    /// `FDSTOREREMOVE=1`.
    pub(crate) fn remove_descriptors(&mut self, run: RunId, name: &str) {
        if let Some((app, slot)) = self.handles.get(&run).map(|handle| (handle.app, handle.slot)) {
            self.close_descriptors(app, slot, |one| one.known.name == name);
        }
    }

    /// Those of a slot whose other end is gone are of no use to anybody.
    fn close_hung_up(&mut self, app: AppId, slot: Slot) {
        self.close_descriptors(app, slot, |one| one.known.poll && fds::is_hung_up(&*one.fd));
    }

    fn close_descriptors(&mut self, app: AppId, slot: Slot, mut which: impl FnMut(&Kept) -> bool) {
        let Some(kept) = self.notify.store.slots.get_mut(&(app, slot)) else {
            return;
        };
        let gone: Vec<Kept> = kept.extract_if(.., |one| which(one)).collect();
        if kept.is_empty() {
            self.notify.store.slots.remove(&(app, slot));
        }
        for one in gone {
            let name = recover::stored_name(app, slot, &one.known);
            self.keeper_send(&ToKeeper::Drop { name }, Vec::new());
            self.core.forget_descriptor(app, slot, one.known.number);
        }
    }

    /// Closes what nobody will be given any more: the app was stopped, or scaled down, or is gone.
    pub(crate) fn tend_fd_store(&mut self, app: AppId) {
        let slots = self.notify.store.slots.range((app, 0)..=(app, Slot::MAX));
        let held: Vec<Slot> = slots.map(|((_, slot), _)| *slot).collect();
        for slot in held {
            let needed = self.core.apps.get(&app).is_some_and(|app| {
                let completed = app.slots.get(slot as usize).is_some_and(|record| record.completed);
                app.is_wanted(slot) && !completed || app.runs_in(slot).next().is_some()
            });
            if !needed {
                self.close_descriptors(app, slot, |_| true);
            }
        }
    }

    /// What the next process of a slot inherits after its sockets.
    pub(crate) fn stored_for(&mut self, app: AppId, slot: Slot, spec: &AppSpec) -> Vec<Arc<OwnedFd>> {
        self.close_hung_up(app, slot);
        let handed = self.notify.store.handed(app, slot, spec);
        handed.map(|one| Arc::clone(&one.fd)).collect()
    }

    /// Adds them to how many descriptors a process inherits, and to their names.
    pub(crate) fn stored_numbers(&self, app: AppId, slot: Slot, spec: &AppSpec, env: &mut EnvMap) {
        let names: Vec<&str> = self
            .notify
            .store
            .handed(app, slot, spec)
            .map(|one| one.known.name.as_str())
            .collect();
        if names.is_empty() {
            return;
        }
        let said = |env: &EnvMap, name: &str| env.get(name).map(|value| value.to_text().into_owned());
        // The app's own variables are its own affair; ours are numbers.
        let sockets = if spec.listen.is_empty() {
            None
        } else {
            said(env, "LISTEN_FDS")
        };
        let before: usize = sockets.as_deref().and_then(|count| count.parse().ok()).unwrap_or(0);
        let mut all = names.join(":");
        if let (true, Some(sockets)) = (before > 0, said(env, "LISTEN_FDNAMES")) {
            all = format!("{sockets}:{all}");
        }
        env.insert("LISTEN_FDS".into(), (before + names.len()).to_string().into());
        env.insert("LISTEN_FDNAMES".into(), all.into());
    }
}
