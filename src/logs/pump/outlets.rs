//! The worker's dealings with a runtime's standard output and standard error.

use nix::sys::epoll::{EpollEvent, EpollFlags};

use crate::logs::console::Outlet;
use crate::logs::pump::worker::{OUTLETS, Worker};
use crate::logs::sink::Notice;
use crate::os::console::Console;

impl Worker {
    pub(super) fn open_outlet(&mut self, which: usize, console: Console) {
        self.ctx.outlets[which] = Some(Outlet::new(console));
    }

    /// A reader has taken something: what waits goes on, and with it the streams that wait for it.
    pub(super) fn outlet_ready(&mut self, which: usize) {
        let Some(outlet) = &mut self.ctx.outlets[which] else {
            return;
        };
        outlet.flush();
        if outlet.is_stalled() {
            return;
        }
        let _known = self.epoll.delete(outlet.console());
        outlet.armed = false;
        outlet.awaited = false;
        for (id, stream) in &mut self.streams {
            if let Some(console) = &mut stream.console
                && console.paused
                && console.outlet == which
            {
                console.paused = false;
                // Known already only if it was never taken out.
                let _known = self.epoll.add(&stream.pipe, EpollEvent::new(EpollFlags::EPOLLIN, *id));
            }
        }
    }

    /// Stalled outlets are waited for; what happened to them is told.
    pub(super) fn wait_for_readers(&mut self) {
        for (which, outlet) in (0..).zip(&mut self.ctx.outlets) {
            let Some(outlet) = outlet else { continue };
            if (outlet.is_stalled() || outlet.awaited) && !outlet.armed {
                let event = EpollEvent::new(EpollFlags::EPOLLOUT, OUTLETS - which);
                outlet.armed = self.epoll.add(outlet.console(), event).is_ok();
            }
            if let Some(news) = outlet.take_news() {
                (self.ctx.notify)(Notice::Console(news));
            }
        }
    }
}
