//! The worker's dealings with targets that are no files.

use nix::sys::epoll::{EpollEvent, EpollFlags};

use crate::logs::journal::Journal;
use crate::logs::pump::worker::{REMOTES, Worker};
use crate::logs::target::{Remote, Remotes, Sockets};

impl Worker {
    pub(super) fn open_remotes(&mut self, sockets: Sockets) {
        let folder = self.ctx.journal.as_ref().map(Journal::folder);
        self.ctx.remotes = Remotes::open(sockets, folder);
    }

    /// A receiver has read something.
    pub(super) fn remote_ready(&mut self) {
        for number in 0..2 {
            let Some(mut remote) = self.ctx.remotes.take(number) else {
                continue;
            };
            let was_full = remote.awaits().is_some();
            if was_full {
                remote.go_on(&self.ctx);
                // A socket takes few messages at once: more are waited for without a nap.
                self.busy = true;
            }
            self.ctx.remotes.put_back(number, remote);
        }
    }

    /// Full sockets are waited for; those whose time has come are tried again.
    pub(super) fn wait_for_remotes(&mut self) {
        for number in 0..2 {
            let Some(mut remote) = self.ctx.remotes.take(number) else {
                continue;
            };
            if remote.retry_at().is_some_and(|at| at <= self.ctx.now) {
                remote.go_on(&self.ctx);
            }
            self.arm(&mut remote, number as u64);
            self.ctx.remotes.put_back(number, remote);
        }
    }

    fn arm(&self, remote: &mut Remote, number: u64) {
        let wanted = remote.awaits().is_some();
        if wanted == *remote.armed() {
            return;
        }
        let event = EpollEvent::new(EpollFlags::EPOLLOUT, REMOTES + 1 + number);
        *remote.armed() = match remote.socket() {
            Some(socket) if wanted => self.epoll.add(socket, event).is_ok(),
            Some(socket) => {
                let _known = self.epoll.delete(socket);
                false
            }
            None => false,
        };
    }
}
