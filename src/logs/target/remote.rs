//! One target: sends, has messages wait, loses and counts them, and goes on. The module above draws it.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use crate::logs::file::Context;
use crate::logs::sink::{Loss, Notice};
use crate::logs::target::queue::Queue;
use crate::logs::target::socket::{Link, Sent};
use crate::logs::target::{Kind, Speaker, syslog};
use crate::model::duration::Millis;
use crate::model::level::Level;
use crate::model::logspec::Stream;
use crate::model::names::{AppName, Slot};
use crate::model::time::{Moment, WallTime};

/// Between the first and the second try.
const SOON: Millis = Millis(100);
/// Between two tries in the end.
const LATE: Millis = Millis(10_000);

/// What one stream lost.
#[derive(Debug)]
struct Gap {
    speaker: Rc<Speaker>,
    lines: u64,
    bytes: u64,
    from: WallTime,
    to: WallTime,
}

/// Loss in progress.
#[derive(Debug)]
struct Losing {
    /// Who lost first; the numbers are everybody's.
    loss: Loss,
    gaps: BTreeMap<(AppName, Slot, Stream), Gap>,
}

/// A target.
#[derive(Debug)]
pub struct Remote {
    kind: Kind,
    link: Link,
    /// None: its file cannot be used.
    queue: Option<Queue>,
    losing: Option<Box<Losing>>,
    /// Nobody receives: no try before this.
    retry: Option<Moment>,
    delay: Millis,
    /// The socket is full.
    full: bool,
    why: String,
    message: Vec<u8>,
}

impl Remote {
    pub(super) fn new(kind: Kind, socket: &Path, queue: Option<&Path>) -> Self {
        let queue = queue.and_then(|path| Queue::open(path).ok());
        Self {
            kind,
            link: Link::new(socket),
            retry: queue.as_ref().filter(|queue| !queue.is_empty()).map(|_| Moment(0)),
            queue,
            losing: None,
            delay: SOON,
            full: false,
            why: String::new(),
            message: Vec::new(),
        }
    }

    /// When to call [`Self::go_on`] at the latest; none if nothing waits.
    #[must_use]
    pub fn retry_at(&self) -> Option<Moment> {
        self.retry
    }

    /// The socket whose receiver has to read before [`Self::go_on`].
    #[must_use]
    pub fn awaits(&self) -> Option<BorrowedFd<'_>> {
        self.link.fd().filter(|_| self.full)
    }

    /// The socket, if there is one.
    #[must_use]
    pub fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.link.fd()
    }

    /// Whether the socket is in the pump's epoll set.
    pub(in crate::logs) fn armed(&mut self) -> &mut bool {
        &mut self.link.armed
    }

    fn waits(&self) -> bool {
        self.queue.as_ref().is_some_and(|queue| !queue.is_empty())
    }

    /// Sends one line.
    pub(super) fn say(&mut self, ctx: &Context, speaker: &Rc<Speaker>, severity: u8, text: &[u8]) {
        if self.losing.is_some() {
            return self.lose(ctx, speaker, text);
        }
        let mut message = std::mem::take(&mut self.message);
        speaker.frame(severity, ctx.wall, text, &mut message);
        let free = !self.waits() && self.retry.is_none() && !self.full;
        if !free || !self.send(ctx.now, &mut message) {
            let queued = self.queue.as_mut().is_some_and(|queue| queue.push(&message));
            if !queued {
                self.lose(ctx, speaker, text);
            }
        }
        self.message = message;
    }

    /// Notes what was sent; after a number of messages.
    pub(super) fn note(&mut self) {
        if let Some(queue) = &mut self.queue {
            queue.note();
        }
        self.message.shrink_to(64 << 10);
    }

    /// True if the message has not to be kept.
    fn send(&mut self, now: Moment, message: &mut Vec<u8>) -> bool {
        let mut sent = self.link.send(message);
        let whole = message.len();
        while sent == Sent::TooLarge {
            match self.kind {
                Kind::Journald => {
                    sent = self.link.send_sealed(message);
                    break;
                }
                Kind::Syslog if message.len() > 1024 => {
                    syslog::cut(message, whole);
                    sent = self.link.send(message);
                }
                Kind::Syslog => break,
            }
        }
        self.full = false;
        match sent {
            Sent::Done => {
                self.retry = None;
                self.delay = SOON;
                true
            }
            // There is no way for it.
            Sent::TooLarge => true,
            Sent::Full => {
                self.wait_for_room(now);
                false
            }
            Sent::Down(error) => {
                self.down(now, error);
                false
            }
        }
    }

    fn wait_for_room(&mut self, now: Moment) {
        self.full = true;
        self.retry = Some(now.after(LATE));
        "it reads too slowly".clone_into(&mut self.why);
    }

    fn down(&mut self, now: Moment, error: rustix::io::Errno) {
        self.retry = Some(now.after(self.delay));
        self.delay = Millis((self.delay.0 * 2).min(LATE.0));
        self.why = nix::errno::Errno::from_raw(error.raw_os_error()).desc().to_owned();
    }

    fn lose(&mut self, ctx: &Context, speaker: &Rc<Speaker>, text: &[u8]) {
        let losing = self.losing.get_or_insert_with(|| {
            let loss = Loss {
                app: speaker.app.clone(),
                slot: speaker.slot,
                path: self.link.path().to_owned(),
                lines: 0,
                bytes: 0,
                error: self.why.clone(),
            };
            ctx.counters.outages.fetch_add(1, Ordering::Relaxed);
            (ctx.notify)(Notice::Lost(loss.clone()));
            let gaps = BTreeMap::new();
            Box::new(Losing { loss, gaps })
        });
        let bytes = text.len() as u64 + 1;
        losing.loss.lines += 1;
        losing.loss.bytes += bytes;
        let key = (speaker.app.clone(), speaker.slot, speaker.stream);
        let gap = losing.gaps.entry(key).or_insert_with(|| Gap {
            speaker: Rc::clone(speaker),
            lines: 0,
            bytes: 0,
            from: ctx.wall,
            to: ctx.wall,
        });
        gap.speaker = Rc::clone(speaker);
        gap.lines += 1;
        gap.bytes += bytes;
        gap.to = ctx.wall;
        // Without a queue nothing else would try again.
        self.retry.get_or_insert(ctx.now.after(SOON));
    }

    /// There is room, or it is time: sends what waits, and says what was lost.
    pub fn go_on(&mut self, ctx: &Context) {
        if !self.full && self.retry.is_some_and(|at| at > ctx.now) {
            return;
        }
        self.full = false;
        self.retry = None;
        match self.link.finish() {
            Sent::Done | Sent::TooLarge => {}
            Sent::Full => return self.wait_for_room(ctx.now),
            Sent::Down(error) => return self.down(ctx.now, error),
        }
        let mut message = std::mem::take(&mut self.message);
        while self.waits() && self.send_oldest(ctx.now, &mut message) {}
        if !self.waits() {
            self.tell_losses(ctx, &mut message);
        }
        self.message = message;
        self.note();
    }

    fn send_oldest(&mut self, now: Moment, message: &mut Vec<u8>) -> bool {
        let Some(queue) = &self.queue else { return false };
        if !queue.front(message) {
            // The file was damaged by others.
            self.queue.iter_mut().for_each(Queue::clear);
            return true;
        }
        let length = message.len();
        let sent = self.send(now, message);
        if let (true, Some(queue)) = (sent, &mut self.queue) {
            queue.pop(length);
        }
        sent
    }

    /// A marker for every stream, where its lines would have been.
    fn tell_losses(&mut self, ctx: &Context, message: &mut Vec<u8>) {
        let Some(mut losing) = self.losing.take() else { return };
        while let Some(entry) = losing.gaps.first_entry() {
            let gap = entry.get();
            let text = format!(
                "[clmgr: {} lines ({} bytes) were lost between {} and {}: {}]",
                gap.lines, gap.bytes, gap.from, gap.to, losing.loss.error
            );
            gap.speaker
                .frame(Level::Warn.severity(), ctx.wall, text.as_bytes(), message);
            if !self.send(ctx.now, message) {
                self.losing = Some(losing);
                return;
            }
            entry.remove();
        }
        let counters = &ctx.counters;
        counters.outages.fetch_sub(1, Ordering::Relaxed);
        counters.lost_lines.fetch_add(losing.loss.lines, Ordering::Relaxed);
        counters.lost_bytes.fetch_add(losing.loss.bytes, Ordering::Relaxed);
        (ctx.notify)(Notice::Resumed(losing.loss));
    }
}
