//! The last resort for connections that wait where nobody will accept them, while other instances are ready: the
//! daemon accepts them itself and passes the bytes on, by connecting to the address once more, which the kernel gives
//! to an instance that is in rotation. That instance sees this machine as its client. A connection that is passed on
//! so ends with the daemon.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use tokio::net::TcpStream;

use super::lane::Lane;
use crate::daemon::Daemon;
use crate::daemon::mail::Mail;
use crate::model::names::{AppId, Slot};
use crate::os::{socket, watch};

impl Daemon {
    /// Looks after exactly these queues of an app.
    pub(super) fn tend_rescues(&mut self, app: AppId, stranded: BTreeSet<(String, Lane)>) {
        self.listeners.rescues.retain(|(id, key, lane), task| {
            let keep = *id != app || stranded.contains(&(key.clone(), *lane));
            if !keep {
                task.abort();
            }
            keep
        });
        for (key, lane) in stranded {
            let place = (app, key, lane);
            if self.listeners.rescues.contains_key(&place) {
                continue;
            }
            let group = self.listeners.get(app, &place.1);
            let copy = group.and_then(|group| group.members.get(&lane)?.fd.try_clone().ok());
            if let Some(queue) = copy {
                let rescue = rescue(queue, self.mail.clone(), app, place.1.clone(), lane.slot);
                let task = tokio::spawn(rescue).abort_handle();
                self.listeners.rescues.insert(place, task);
            }
        }
    }

    /// Nothing of this address is rescued any more.
    pub(super) fn end_rescues(&mut self, app: AppId, key: &str) {
        self.listeners.rescues.retain(|(id, other, _), task| {
            let keep = *id != app || other != key;
            if !keep {
                task.abort();
            }
            keep
        });
    }

    fn rescued(&mut self, app: AppId, key: &str, slot: Slot, connection: OwnedFd) {
        if let Err(connection) = self.give_to_worker(app, key, slot, connection) {
            self.pass_on(app, key, slot, connection);
        }
    }

    /// The last resort: its bytes go through here.
    pub(crate) fn pass_on(&self, app: AppId, key: &str, slot: Slot, connection: OwnedFd) {
        let group = self.listeners.get(app, key);
        let Some(address) = group.and_then(|group| own_address(group.spec.address.inet()?, group.port?)) else {
            return;
        };
        let name = self
            .core
            .apps
            .get(&app)
            .map(|app| app.name().to_string())
            .unwrap_or_default();
        tracing::warn!("{name}: a connection that waited for instance {slot} is passed on to another");
        tokio::spawn(async move {
            if let Err(error) = relay(connection, address).await {
                tracing::debug!("{address}: a connection that was passed on ended: {error}");
            }
        });
    }
}

/// Accepts everything that waits, and what still comes because its handshake was under way.
async fn rescue(queue: OwnedFd, mail: Mail, app: AppId, key: String, slot: Slot) {
    let Ok(queue) = watch::for_reading(queue) else { return };
    while let Ok(mut ready) = queue.readable().await {
        loop {
            match socket::accept(queue.get_ref()) {
                Ok(Some(connection)) => {
                    let key = key.clone();
                    mail.post(move |daemon| daemon.rescued(app, &key, slot, connection));
                }
                Ok(None) => {
                    ready.clear_ready();
                    break;
                }
                Err(error) => {
                    // No descriptors left, or it is closed. What waits there goes on waiting.
                    tracing::warn!("{key}: what waits for instance {slot} cannot be accepted: {error}");
                    return;
                }
            }
        }
    }
}

/// Where to reach a socket that was bound to this.
fn own_address(bound: SocketAddr, port: u16) -> Option<SocketAddr> {
    let ip = match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    Some(SocketAddr::new(ip, port))
}

async fn relay(connection: OwnedFd, address: SocketAddr) -> io::Result<()> {
    let mut client = TcpStream::from_std(connection.into())?;
    let mut server = TcpStream::connect(address).await?;
    // What either side writes goes out as it would have.
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}
