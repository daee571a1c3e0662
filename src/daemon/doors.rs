//! The daemon's two sockets. Both are stored in the keeper: while no daemon lives, connections and messages wait in
//! their queues, and the next daemon answers them.
//!
//! ```text
//!  daemon ends ──▶ clients connect, and wait in the backlog ──▶ next daemon accepts from the same socket
//!  its name was removed, or is another file's ──▶ it is bound anew, and the old one is forgotten
//!  the keeper ends ──▶ the daemon stores its copies with the next keeper
//! ```

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use tokio::net::UnixListener;

use crate::daemon::ready::pipe_name;
use crate::daemon::start::DaemonError;
use crate::daemon::{Daemon, http};
use crate::keeper::protocol::ToKeeper;
use crate::os::running;

/// The name of the readiness socket in the keeper.
const NOTIFY: &str = "notify";
/// What the names of control sockets begin with.
const CONTROL: &str = "control/";

/// What the keeper has of an earlier daemon.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The name under which a control socket that can still be connected to would be stored.
    asked: Option<String>,
    control: Option<OwnedFd>,
    notify: Option<OwnedFd>,
    names: Vec<String>,
}

impl Found {
    /// Looks which control socket the path leads to.
    pub(crate) fn look(path: &Path) -> Self {
        Self {
            asked: name(path),
            ..Self::default()
        }
    }

    /// What this name stands for belongs here.
    pub(crate) fn is_door(&self, name: &str) -> bool {
        name == NOTIFY || name.starts_with(CONTROL)
    }

    /// A descriptor that the keeper has stored under such a name.
    pub(crate) fn stored(&mut self, name: &str, fd: OwnedFd) {
        if name == NOTIFY {
            self.notify = Some(fd);
        } else if Some(name) == self.asked.as_deref() {
            self.control = Some(fd);
        }
    }

    /// The answer to `Names`.
    pub(crate) fn names(&mut self, names: &[String]) {
        self.names = names.to_vec();
    }
}

/// Both sockets, as the keeper has them.
#[derive(Debug, Default)]
pub(crate) struct Doors {
    kept: Vec<(String, Arc<OwnedFd>)>,
}

/// The name of the control socket that this path leads to: the file's own, so that a socket whose file was removed
/// or replaced is not taken for it. Its mode and its links may change.
fn name(path: &Path) -> Option<String> {
    let file = std::fs::symlink_metadata(path).ok()?;
    let (device, inode) = (file.dev(), file.ino());
    Some(format!(
        "{CONTROL}{device:x}-{inode:x}-{:x}.{:x}",
        file.mtime(),
        file.mtime_nsec()
    ))
}

impl Daemon {
    /// Takes both sockets over, or makes them.
    pub(crate) fn open_doors(&mut self, found: Found) -> Result<UnixListener, DaemonError> {
        self.watch_home();
        let failed = |path: &Path| DaemonError::system(format!("make the socket {}", path.display()));
        let notify = self.home.notify_socket();
        self.listen_for_readiness(&notify, found.notify)
            .map_err(failed(&notify))?;
        let path = self.home.socket();
        let (listener, kept) = match (found.control, found.asked) {
            (Some(fd), Some(name)) => (std::os::unix::net::UnixListener::from(fd), Some(name)),
            (Some(_) | None, _) => {
                let listener = http::bind(&path)?;
                let name = name(&path);
                if let Some(name) = &name {
                    self.keep(name.clone(), listener.as_fd()).map_err(failed(&path))?;
                }
                (listener, name)
            }
        };
        // Nobody can connect to these any more. Who is on trial changes nothing.
        for stale in found.names {
            if self.upgrades.order.is_none() && stale.starts_with(CONTROL) && Some(&stale) != kept.as_ref() {
                self.keeper_send(&ToKeeper::Drop { name: stale }, Vec::new());
            }
        }
        if let Some(name) = kept.filter(|kept| !self.doors.kept.iter().any(|(name, _)| name == kept)) {
            let copy = listener.as_fd().try_clone_to_owned().map_err(failed(&path))?;
            self.doors.kept.push((name, Arc::new(copy)));
        }
        UnixListener::from_std(listener).map_err(failed(&path))
    }

    /// An orderly end: takes both names and the note away. If the apps live on, the note that says so stays, and so
    /// does the readiness socket: the service manager may keep it for the next keeper.
    pub(crate) fn close_doors(&self) {
        if self.detaching {
            // The keeper waits for this process no longer than it must.
            self.store.shut_down();
            // Left behind, it is replaced by the next daemon.
            let _left = http::unbind(&self.home.socket());
            return;
        }
        if let Err(error) = running::remove(&self.home.running()) {
            tracing::warn!("{} cannot be removed: {error}", self.home.running().display());
        }
        for door in [self.home.socket(), self.home.notify_socket()] {
            // Left behind, it is replaced by the next daemon.
            let _left = http::unbind(&door);
        }
    }

    fn listen_for_readiness(&mut self, path: &Path, stored: Option<OwnedFd>) -> io::Result<()> {
        // What nobody can send to any more is of no use.
        let stored = stored.filter(|_| path.exists());
        let is_stored = stored.is_some();
        let socket = self.listen_for_notices(path, stored)?;
        if is_stored {
            self.doors.kept.push((NOTIFY.to_owned(), Arc::new(socket)));
            return Ok(());
        }
        self.keep(NOTIFY.to_owned(), socket)
    }

    /// Stores a copy in this keeper, and in every later one.
    fn keep(&mut self, name: String, socket: impl AsFd) -> io::Result<()> {
        let copy = Arc::new(socket.as_fd().try_clone_to_owned()?);
        self.keeper_send(&ToKeeper::Store { name: name.clone() }, vec![Arc::clone(&copy)]);
        self.doors.kept.push((name, copy));
        Ok(())
    }

    /// Gives a new keeper what the one that died has kept: both sockets, pipes that say readiness, and what apps
    /// have stored.
    pub(crate) fn store_again(&mut self) {
        let mut kept = self.doors.kept.clone();
        let ready = self.ready_pipes.iter();
        kept.extend(ready.map(|(run, pipe)| (pipe_name(*run), Arc::clone(pipe))));
        kept.extend(self.notify.store.all());
        for (name, fd) in kept {
            self.keeper_send(&ToKeeper::Store { name }, vec![fd]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::name;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_socket_that_was_replaced_has_another_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        assert_eq!(name(&path), None);
        let _first = UnixListener::bind(&path).unwrap();
        let before = name(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        assert_eq!(name(&path).unwrap(), before);
        nix::unistd::unlink(&path).unwrap();
        let _second = UnixListener::bind(&path).unwrap();
        assert_ne!(name(&path).unwrap(), before);
    }
}
