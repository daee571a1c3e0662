//! The sockets that workers of Node clusters have asked for: no spec names them, so they are known by their keys.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::daemon::Daemon;
use crate::model::balance::ExecMode;
use crate::model::listen::{Address, ListenSpec};
use crate::model::names::{AppId, AppName};
use crate::os::{listening, pidfd, socket};
use crate::supervise::app::App;

/// The spec that a key was made from, for an app that may have such sockets. Backlog and permissions, which a key does
/// not tell, are on the socket.
pub(super) fn spec_of(app: &App, key: &str) -> Option<ListenSpec> {
    if app.specs.values().all(|spec| spec.exec_mode != ExecMode::Cluster) {
        return None;
    }
    let (address, v6_only) = match key.strip_suffix(",v6only") {
        Some(address) => (address, true),
        None => (key, false),
    };
    let mut spec = ListenSpec::new(address.parse::<Address>().ok()?);
    spec.v6_only |= v6_only;
    Some(spec)
}

impl Daemon {
    /// Why a worker cannot have a socket, and what to do, for people.
    pub(crate) fn listen_trouble(&self, app: &AppName, wanted: &ListenSpec, error: &io::Error) -> String {
        let trouble = self.trouble(app, wanted, error);
        format!("{}; {}", trouble.why, trouble.hint)
    }

    /// Where keeper and daemon died together nobody holds the sockets but the workers: one of them has it.
    pub(super) fn of_a_worker(&self, app: AppId, wanted: &ListenSpec) -> Option<Arc<OwnedFd>> {
        let living = self
            .handles
            .values()
            .filter(|handle| handle.app == app && handle.exit.is_none());
        for handle in living {
            for number in listening::socket_numbers(handle.pid) {
                if let Ok(fd) = pidfd::descriptor(&handle.pidfd, number)
                    && socket::is(&fd, wanted)
                {
                    return Some(Arc::new(fd));
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::spec_of;
    use crate::model::balance::ExecMode;
    use crate::model::listen::ListenSpec;
    use crate::model::names::AppId;
    use crate::model::spec::AppSpec;
    use crate::supervise::app::App;
    use std::sync::Arc;

    #[test]
    fn a_key_tells_its_socket() {
        let mut spec = AppSpec::new("a".parse().unwrap(), vec!["node".into()], "/".into());
        let app = |spec: &AppSpec| App::new(AppId(1), Arc::new(spec.clone()), 1, true);
        assert_eq!(spec_of(&app(&spec), "0.0.0.0:80"), None);
        spec.exec_mode = ExecMode::Cluster;
        let app = app(&spec);
        for text in [
            "0.0.0.0:80",
            "[::]:80",
            "[::1]:80",
            "udp:[::]:53",
            "unix:/a b",
            "unix:@n",
        ] {
            let mut wanted = ListenSpec::new(text.parse().unwrap());
            assert_eq!(spec_of(&app, &wanted.key()).as_ref(), Some(&wanted));
            wanted.v6_only = wanted.address.inet().is_some_and(|inet| inet.is_ipv6());
            assert_eq!(spec_of(&app, &wanted.key()), Some(wanted));
        }
        assert_eq!(spec_of(&app, "rubbish"), None);
    }
}
