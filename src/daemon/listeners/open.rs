//! Binding: for a request, before anything is changed, and for a process that is about to start; and what to say
//! when it does not work.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::lane::Lane;
use super::{is_per_slot, remove_file};
use crate::daemon::Daemon;
use crate::daemon::runs::Handle;
use crate::daemon::text::cause;
use crate::model::balance::ExecMode;
use crate::model::listen::{Address, ListenSpec, MAX_LISTENERS, MAX_PATH};
use crate::model::names::{AppId, AppName};
use crate::model::outcome::{ErrorBody, ErrorKind};
use crate::model::spec::{AppSpec, Ready};
use crate::os::{holder, procfs, socket};

/// A socket that a request has bound and no instance has taken yet.
#[derive(Debug)]
pub(crate) struct Reservation {
    app: AppName,
    spec: ListenSpec,
    fd: Arc<OwnedFd>,
}

/// Why a socket cannot be bound, and what to do.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) why: String,
    pub(super) hint: String,
}

/// What a spec must hold whoever sends it; `config` has better words for users' files.
///
/// # Errors
/// A sentence for people.
pub(crate) fn validate(spec: &AppSpec) -> Result<(), String> {
    let list = &spec.listen;
    if spec.ready == Ready::Listen && !list.is_empty() && spec.exec_mode == ExecMode::Fork {
        return Err(
            "ready = \"listen\" says nothing beside `listen`: the sockets listen before the program begins".into(),
        );
    }
    if list.len() > MAX_LISTENERS {
        return Err(format!(
            "{} sockets are too many; {MAX_LISTENERS} are possible",
            list.len()
        ));
    }
    if list.iter().filter(|entry| entry.stdin).count() > 1 {
        return Err("two sockets cannot both be descriptor 0 (`stdin`)".into());
    }
    for (at, spec) in list.iter().enumerate() {
        if list.iter().take(at).any(|other| other.address == spec.address) {
            return Err(format!("{} is in `listen` twice", spec.address));
        }
        let bad_name = |c: char| c.is_control() || c == ':';
        if spec.name.is_empty() || spec.name.len() > 255 || spec.name.contains(bad_name) {
            return Err(format!("{:?} cannot be a socket's name", spec.name));
        }
        let text = match &spec.address {
            Address::Tcp(_) | Address::Udp(_) => continue,
            Address::Unix(path) if !path.as_path().is_absolute() => {
                return Err(format!("the socket's path is not absolute: {path}"));
            }
            Address::Unix(path) => path.as_bytes(),
            Address::Abstract(name) => name.as_bytes(),
        };
        if text.is_empty() || text.len() > MAX_PATH || text.contains(&0) {
            return Err(format!("{} cannot be a socket's path", spec.address));
        }
    }
    Ok(())
}

impl Daemon {
    /// Binds what these apps need and do not have, so that a request is refused before anything has happened.
    pub(crate) fn reserve(&mut self, specs: &[AppSpec]) -> Result<Vec<Reservation>, Box<ErrorBody>> {
        let mut made: Vec<Reservation> = Vec::new();
        for spec in specs {
            for wanted in &spec.listen {
                match self.reserve_one(&spec.name, wanted) {
                    Ok(reservation) => made.extend(reservation),
                    Err(Trouble { why, hint }) => {
                        self.unreserve(made);
                        let message = format!("{}: {why}; nothing was changed", spec.name);
                        return Err(Box::new(ErrorBody::new(ErrorKind::Failed, message).hint(hint)));
                    }
                }
            }
        }
        Ok(made)
    }

    fn reserve_one(&mut self, app: &AppName, wanted: &ListenSpec) -> Result<Option<Reservation>, Trouble> {
        let key = wanted.key();
        let known = self.core.named(app).map(|app| app.id);
        if known.is_some_and(|id| self.listeners.get(id, &key).is_some()) {
            return Ok(None);
        }
        let name = (app.clone(), key);
        let shared = self.listeners.reserved.get(&name).and_then(std::sync::Weak::upgrade);
        let fd = match shared {
            Some(fd) => fd,
            None => match self.bind_socket(known, wanted) {
                Ok(fd) => Arc::new(fd),
                // One that could not be taken back: it is free when the instance has stopped.
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && self.is_with_instance(known, wanted) => {
                    return Ok(None);
                }
                Err(error) => return Err(self.trouble(app, wanted, &error)),
            },
        };
        self.listeners.reserved.insert(name, Arc::downgrade(&fd));
        Ok(Some(Reservation {
            app: app.clone(),
            spec: wanted.clone(),
            fd,
        }))
    }

    /// The request is over: what nobody took is closed.
    pub(crate) fn unreserve(&mut self, reservations: Vec<Reservation>) {
        for Reservation { app, spec, fd } in reservations {
            if Arc::strong_count(&fd) == 1 {
                remove_file(&spec.address);
                self.listeners.reserved.remove(&(app, spec.key()));
            }
        }
    }

    /// The sockets of a process that is about to start, in the order of its spec.
    ///
    /// # Errors
    /// One cannot be bound; a sentence for people.
    pub(crate) fn sockets_for(&mut self, app: AppId, lane: Lane, spec: &AppSpec) -> Result<Vec<Arc<OwnedFd>>, String> {
        let mut list = Vec::with_capacity(spec.listen.len());
        for wanted in &spec.listen {
            let lane = if is_per_slot(spec, wanted) { lane } else { Lane::SHARED };
            let made = self.socket_for(app, lane, wanted, false);
            list.push(made.map_err(|error| self.trouble(&spec.name, wanted, &error).why)?);
        }
        if !list.is_empty() {
            self.follow_rotation(app);
        }
        Ok(list)
    }

    /// The socket of a lane, and before it one for each slot below. The caller has the rotation followed.
    pub(super) fn socket_for(
        &mut self,
        app: AppId,
        lane: Lane,
        wanted: &ListenSpec,
        dynamic: bool,
    ) -> io::Result<Arc<OwnedFd>> {
        let key = wanted.key();
        self.first_socket(app, &key, wanted, dynamic)?;
        let group = self.listeners.group_mut(app, &key).ok_or(io::ErrorKind::NotFound)?;
        let first = group.any().map(Arc::clone).ok_or(io::ErrorKind::NotFound)?;
        let has = |lane: &Lane| group.members.contains_key(lane);
        let below = (0..lane.slot).map(Lane::first).filter(|below| !has(&below.other()));
        let missing: Vec<Lane> = below.chain([lane]).filter(|lane| !has(lane)).collect();
        if !missing.is_empty() {
            group.pin();
        }
        for lane in missing {
            let fd = Arc::new(socket::join(wanted, &first)?);
            self.keep_socket(app, wanted, dynamic, lane, fd);
        }
        let group = self.listeners.get(app, &key).ok_or(io::ErrorKind::NotFound)?;
        let member = group.members.get(&lane).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::clone(&member.fd))
    }

    /// Has at least one socket of an entry, as the entry wants it.
    fn first_socket(&mut self, app: AppId, key: &str, wanted: &ListenSpec, dynamic: bool) -> io::Result<()> {
        if let Some(group) = self.listeners.group_mut(app, key) {
            if group.spec != *wanted && !dynamic {
                for member in group.members.values() {
                    if let Err(error) = socket::adjust(&member.fd, wanted) {
                        tracing::warn!("{}: {}", wanted.address, cause(&error));
                    }
                }
                group.spec.clone_from(wanted);
            }
            return Ok(());
        }
        let name = self.core.apps.get(&app).map(|app| app.name().clone());
        let reserved = name.and_then(|name| self.listeners.reserved.remove(&(name, key.to_owned())));
        let fd = match reserved.and_then(|reserved| reserved.upgrade()) {
            Some(fd) => fd,
            None => Arc::new(self.bind_socket(Some(app), wanted)?),
        };
        self.keep_socket(app, wanted, dynamic, Lane::SHARED, fd);
        Ok(())
    }

    /// With the port that the kernel chose for this app before, if that is still free.
    fn bind_socket(&self, app: Option<AppId>, wanted: &ListenSpec) -> io::Result<OwnedFd> {
        let chosen = self.chosen_port(app, wanted).unwrap_or(0);
        match socket::listen(wanted, chosen) {
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse && chosen != 0 && !self.is_with_instance(app, wanted) =>
            {
                socket::listen(wanted, 0)
            }
            result => result,
        }
    }

    /// The port that the kernel chose before.
    fn chosen_port(&self, app: Option<AppId>, wanted: &ListenSpec) -> Option<u16> {
        let app = self.core.apps.get(&app?)?;
        app.ports.get(&wanted.key()).copied()
    }

    /// An instance of this very app has it, and we have not.
    fn is_with_instance(&self, app: Option<AppId>, wanted: &ListenSpec) -> bool {
        let wanted = bound(wanted, self.chosen_port(app, wanted));
        let holders = holder::holders(&wanted);
        holders
            .iter()
            .any(|holder| self.instance(holder.pid).is_some_and(|handle| Some(handle.app) == app))
    }

    /// The instance that a process is, or is a member of.
    fn instance(&self, pid: i32) -> Option<&Handle> {
        let session = procfs::stat(pid).map_or(pid, |stat| stat.session);
        self.handles
            .values()
            .find(|handle| handle.pid == pid || handle.pid == session)
    }

    pub(super) fn trouble(&self, app: &AppName, wanted: &ListenSpec, error: &io::Error) -> Trouble {
        let address = &wanted.address;
        let (why, hint) = match (error.kind(), address) {
            (io::ErrorKind::AddrInUse, _) => self.in_use(app, wanted),
            (io::ErrorKind::AddrNotAvailable, _) => (
                "no interface of this machine has the address".to_owned(),
                "`ip address` lists those it has; 0.0.0.0 and [::] stand for all of them".to_owned(),
            ),
            (io::ErrorKind::PermissionDenied, Address::Tcp(inet) | Address::Udp(inet)) if inet.port() < 1024 => (
                "this user may not use ports below 1024".to_owned(),
                "choose a port from 1024 on, run clmgr as root, or: sysctl net.ipv4.ip_unprivileged_port_start=80"
                    .to_owned(),
            ),
            (io::ErrorKind::AlreadyExists, Address::Unix(path)) => (
                format!("{path} exists and is not a socket"),
                "remove it, or choose another path".to_owned(),
            ),
            (io::ErrorKind::NotFound, Address::Unix(path)) => {
                let folder = path.as_path().parent().unwrap_or(path.as_path()).display().to_string();
                (
                    format!("the folder {folder} does not exist"),
                    format!("create it: mkdir -p {folder}"),
                )
            }
            (_, _) if error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error()) => (
                "this machine has no IPv6".to_owned(),
                "use an IPv4 address, such as 0.0.0.0".to_owned(),
            ),
            (io::ErrorKind::InvalidInput, Address::Unix(_)) => (
                cause(error),
                "`owner` and `group` are names or numbers; `getent passwd` and `getent group` list the names"
                    .to_owned(),
            ),
            (_, Address::Unix(path)) => (
                cause(error),
                format!("check the folder of {path}: clmgr must be able to write to it"),
            ),
            (_, _) => (cause(error), "choose another address".to_owned()),
        };
        Trouble {
            why: format!("cannot listen on {address}: {why}"),
            hint,
        }
    }

    /// Who has it: an app of this home, or some process.
    fn in_use(&self, app: &AppName, wanted: &ListenSpec) -> (String, String) {
        if let Some((owner, held)) = self.owner_of(wanted) {
            return if owner == *app {
                (
                    format!("this app still has {held}, which excludes it"),
                    format!("stop it first: clmgr stop {app}; then start it again"),
                )
            } else {
                (
                    format!("the app {owner} has {held}"),
                    format!("choose another port, or stop it: clmgr stop {owner}"),
                )
            };
        }
        let holders = holder::holders(wanted);
        let Some(first) = holders.first() else {
            let hint = match wanted.address.inet() {
                Some(inet) => format!("as root, `ss -lntup 'sport = :{}'` shows by which", inet.port()),
                None => "as root, `ss -lxp` shows by which".to_owned(),
            };
            return (
                "it is in use by a process that cannot be seen from here".to_owned(),
                hint,
            );
        };
        let named = format!("process {} ({})", first.pid, first.program);
        let instance = self.instance(first.pid).and_then(|handle| {
            let app = self.core.apps.get(&handle.app)?;
            Some((app.name().clone(), handle.slot))
        });
        match instance {
            Some((owner, slot)) => (
                format!("it is in use by {named}, which is {owner}:{slot}"),
                format!("choose another port, or stop it: clmgr stop {owner}"),
            ),
            None => (
                format!("it is in use by {named}"),
                "stop that process, or choose another address".to_owned(),
            ),
        }
    }

    /// The app whose socket excludes this one, and that socket's address.
    fn owner_of(&self, wanted: &ListenSpec) -> Option<(AppName, Address)> {
        for (id, groups) in &self.listeners.groups {
            for super::group::Group { spec, port, .. } in groups.values() {
                if bound(spec, *port).collides(wanted) {
                    let name = self.core.apps.get(id).map(|app| app.name().clone())?;
                    return Some((name, bound(spec, *port).address));
                }
            }
        }
        let reserved = self.listeners.reserved.iter();
        reserved
            .filter_map(|((name, _), fd)| Some((name, fd.upgrade()?)))
            .find(|(_, fd)| socket::is(fd, wanted))
            .map(|(name, _)| (name.clone(), wanted.address.clone()))
    }
}

/// The spec with the port that the kernel chose.
fn bound(spec: &ListenSpec, port: Option<u16>) -> ListenSpec {
    let mut spec = spec.clone();
    if let (Address::Tcp(inet) | Address::Udp(inet), Some(port)) = (&mut spec.address, port) {
        inet.set_port(port);
    }
    spec
}
