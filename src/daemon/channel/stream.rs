//! One channel: the task that reads and writes it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

use crate::daemon::channel::Heard;
use crate::daemon::mail::Mail;
use crate::model::names::RunId;
use crate::node::channel::{Carry, complete};
use crate::node::message::{self, FromApp};
use crate::node::outbox::{Item, Outbox};
use crate::os::{fds, watch};

/// What is looked at first, in bytes: nearly every message fits. The beginning of a longer line is consumed before its
/// end is there: the kernel lets the app go on only when a quarter of its room at most is taken.
const GLANCE: usize = 4 << 10;
/// What is looked at when that is full, in bytes.
const WINDOW: usize = 64 << 10;
/// What is left in the socket until it is answered, in bytes, for the same reason: each small line takes far more room
/// than its bytes. A worker's first questions fit.
const KEEP: usize = 2 << 10;
/// After a full window: at most 13 MB/s of one app's messages.
const REST: Duration = Duration::from_millis(5);

/// The channel is of no use any more.
enum Ended {
    /// The app has closed it.
    Closed,
    /// The daemon leaves; what was not acted on stays where it is.
    Leaving,
}

pub(super) struct Stream {
    run: RunId,
    mail: Mail,
    fd: AsyncFd<Arc<OwnedFd>>,
    orders: mpsc::Receiver<Item<Arc<OwnedFd>>>,
    outbox: Outbox<Arc<OwnedFd>>,
    /// Where in the stream the bytes begin that are still in the socket.
    base: u64,
    /// How many of them were acted on.
    acted: usize,
    carry: Carry,
    hung_up: bool,
}

impl Stream {
    /// # Errors
    /// The runtime does not take the socket.
    pub(super) fn new(
        run: RunId,
        channel: Arc<OwnedFd>,
        mail: Mail,
        orders: mpsc::Receiver<Item<Arc<OwnedFd>>>,
    ) -> io::Result<Self> {
        Ok(Self {
            run,
            mail,
            fd: watch::for_both(channel)?,
            orders,
            outbox: Outbox::default(),
            base: 0,
            acted: 0,
            carry: Carry::default(),
            hung_up: false,
        })
    }

    /// Until the app closes it, or the run is forgotten.
    pub(super) async fn serve(mut self) {
        loop {
            self.write();
            self.settle();
            // Who reads nothing is not heard; who is only slow to take a descriptor is.
            let is_deaf = self.outbox.next().is_some();
            tokio::select! {
                order = self.orders.recv() => match order {
                    Some(item) => self.push(item),
                    None => return,
                },
                hung_up = readable(&self.fd), if !is_deaf => {
                    self.hung_up |= hung_up;
                    match self.read().await {
                        Ok(()) => {}
                        Err(Ended::Closed) => break,
                        Err(Ended::Leaving) => return,
                    }
                }
                () = writable(&self.fd), if is_deaf => {}
            }
        }
        let run = self.run;
        self.mail.post(move |daemon| daemon.channel_closed(run));
    }

    fn push(&mut self, item: Item<Arc<OwnedFd>>) {
        if !self.outbox.push(item) {
            tracing::warn!(run = %self.run, "it reads no messages: one more is dropped");
        }
    }

    /// Writes what goes in.
    fn write(&mut self) {
        while let Some(next) = self.outbox.next() {
            let handles: Vec<_> = next.handle.iter().map(|handle| handle.as_fd()).collect();
            match fds::send(self.fd.get_ref(), next.bytes, &handles) {
                Ok(count) => self.outbox.wrote(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    // Nobody reads any more; what the app said before is still heard.
                    self.outbox.clear();
                    self.hung_up = true;
                }
            }
        }
    }

    /// Acts on every line that is there.
    async fn read(&mut self) -> Result<(), Ended> {
        let mut size = GLANCE;
        loop {
            let mut buffer = vec![0; size];
            let count = match fds::peek(self.fd.get_ref(), &mut buffer) {
                Ok(0) => return Err(Ended::Closed),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return Err(Ended::Closed),
            };
            let is_full = count == size;
            let fresh = buffer.get(self.acted..count).unwrap_or_default();
            let (lines, length) = complete(fresh);
            if lines.is_empty() {
                if is_full && size < WINDOW {
                    size = WINDOW;
                    continue;
                }
                // More is there, but cannot be seen before this is gone.
                let is_cut = count >= GLANCE || fds::waiting(self.fd.get_ref()).is_ok_and(|all| all > count as u64);
                if is_cut || self.hung_up {
                    self.carry.push(fresh);
                    self.consume(count);
                    continue;
                }
                return Ok(());
            }
            let (messages, with_handle) = self.take(&lines);
            self.acted += length;
            self.tell(messages).await?;
            self.write();
            if with_handle || self.hung_up {
                self.consume(self.acted);
            } else {
                self.settle();
            }
            if is_full && size == WINDOW {
                tokio::time::sleep(REST).await;
            }
        }
    }

    /// Reads lines that follow what was acted on; true if a descriptor came with one.
    fn take(&mut self, lines: &[&[u8]]) -> (Vec<(u64, FromApp)>, bool) {
        let mut messages = Vec::new();
        let mut with_handle = false;
        let mut at = self.base + self.acted as u64;
        for line in lines {
            let origin = at;
            at += line.len() as u64 + 1;
            let read = if self.carry.is_empty() {
                message::read(line)
            } else {
                message::read(&self.carry.finish(line))
            };
            match read {
                Some(FromApp::HandleAck) => self.outbox.arrived(),
                Some(FromApp::HandleNack) => self.outbox.lost(),
                Some(FromApp::Handle { message }) => {
                    with_handle = true;
                    self.outbox.push_urgent(message::handle_ack());
                    messages.push((origin, *message));
                }
                Some(message) => messages.push((origin, message)),
                None => {}
            }
        }
        (messages, with_handle)
    }

    async fn tell(&mut self, messages: Vec<(u64, FromApp)>) -> Result<(), Ended> {
        if messages.is_empty() {
            return Ok(());
        }
        let run = self.run;
        let heard = self.mail.ask(move |daemon| daemon.heard_of(run, messages)).await;
        let Heard { replies, written } = heard.ok_or(Ended::Leaving)?;
        for (origin, (line, handle)) in replies {
            self.push(Item::new(line, handle, Some(origin)));
        }
        if let Some(written) = written {
            // Without an answer nothing was written, and the daemon is leaving.
            written.await.map_err(|_| Ended::Leaving)?;
        }
        Ok(())
    }

    /// Consumes what is acted on and answered.
    fn settle(&mut self) {
        let answered = self.outbox.first_origin().map_or(self.acted, |origin| {
            usize::try_from(origin.saturating_sub(self.base)).unwrap_or(0)
        });
        let kept = self.acted.saturating_sub(answered);
        self.consume(if kept > KEEP {
            self.acted
        } else {
            answered.min(self.acted)
        });
    }

    fn consume(&mut self, count: usize) {
        let mut left = count;
        let mut buffer = [0; GLANCE];
        while left > 0 {
            // Descriptors that come along are of no use here and closed.
            let mut handles: Vec<OwnedFd> = Vec::new();
            let room = buffer.len().min(left);
            match fds::receive(self.fd.get_ref(), &mut buffer[..room], &mut handles) {
                Ok(got) if got.bytes > 0 => left -= got.bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => break,
            }
        }
        self.base += (count - left) as u64;
        self.acted = self.acted.saturating_sub(count - left);
    }
}

/// Until something can be read; true if the other end is closed.
async fn readable(fd: &AsyncFd<Arc<OwnedFd>>) -> bool {
    match fd.readable().await {
        Ok(mut guard) => {
            let hung_up = guard.ready().is_read_closed();
            guard.clear_ready();
            hung_up
        }
        Err(_) => true,
    }
}

async fn writable(fd: &AsyncFd<Arc<OwnedFd>>) {
    if let Ok(mut guard) = fd.writable().await {
        guard.clear_ready();
    }
}
