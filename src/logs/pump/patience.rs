//! A full disk and `log_overflow = "block"`: lines wait for room.
//!
//! ```text
//!  reading ── no room ──► refused: what was read is held, the pipe is not read, so the app slows down
//!     ▲                      │  tried again once a second, and when rotated files have made room
//!     │◄──────── room ───────┤
//!     │                      └── for PATIENCE ──► an outage (see `logs::outage`): lines are lost and counted
//!     └──────────────────────────────── room ───────┘
//! ```
//!
//! What is held is in the journal, as the beginning of a line is. While one stream waits, the others are read in small
//! pieces: a full disk does not become full memory.

use memchr::memrchr;
use nix::sys::epoll::{EpollEvent, EpollFlags};

use crate::logs::file::{Context, Writer};
use crate::logs::outage::{PATIENCE, RETRY};
use crate::logs::pump::stream::{Scratch, Stream};
use crate::logs::pump::worker::{DRAIN, Worker};
use crate::model::duration::Millis;

/// What is read at once while some stream waits.
pub(super) const PINCH: usize = 4 << 10;
/// What may be held for a stream that ended; more is lost and counted.
pub(super) const MOST: usize = 4 << 20;

impl Stream {
    /// Whether it may wait now.
    pub(super) fn is_patient(&self, ctx: &Context) -> bool {
        let waited_out = |since: crate::model::time::Moment| since.after(PATIENCE) <= ctx.now;
        self.patient && !self.refused.is_some_and(waited_out) && self.held.len() < MOST
    }

    /// Keeps what was not taken.
    pub(super) fn keep_waiting(&mut self, ctx: &Context, data: &[u8], taken: usize) {
        match data.get(taken..).filter(|rest| !rest.is_empty()) {
            Some(rest) => {
                self.held.extend_from_slice(rest);
                self.refused.get_or_insert(ctx.now);
            }
            None => self.refused = None,
        }
    }

    /// Begins its turn in the journal, for what is held.
    pub(super) fn begin_held(&mut self, ctx: &mut Context) {
        let Some(journal) = &mut ctx.journal else { return };
        if self.refused.is_some() {
            // These may be many lines, and may be written in parts.
            journal.begin_claimed(ctx.now, self.key, &self.held);
        } else {
            journal.begin(ctx.now, self.key, &self.held, self.parked);
        }
    }

    /// Tries again what is held; true if nothing waits any more.
    fn try_again(&mut self, ctx: &mut Context, scratch: &mut Scratch) -> bool {
        self.begin_held(ctx);
        let whole = self.begins();
        let held = std::mem::take(&mut self.held);
        // A line that is not complete stays where the others have theirs.
        let end = if self.frames() {
            memrchr(b'\n', &held).map_or(0, |at| at + 1)
        } else {
            held.len()
        };
        let (lines, partial) = held.split_at(end);
        let taken = self.emit(ctx, scratch, lines, lines.len(), whole);
        self.keep_waiting(ctx, lines, taken);
        self.held.extend_from_slice(partial);
        self.park(ctx);
        self.refused.is_none()
    }
}

impl Worker {
    /// How long until a stream that waits is tried again.
    pub(super) fn waiting(&self) -> Option<Millis> {
        (!self.refused.is_empty()).then(|| self.try_at.since(self.ctx.now))
    }

    /// Notes that a stream waits; its pipe is not read.
    pub(super) fn wait_for_room(&mut self, id: Writer) {
        let Some(stream) = self.streams.get(&id).filter(|stream| stream.refused.is_some()) else {
            return;
        };
        // Its end would be an event without end.
        let _known = self.epoll.delete(&stream.pipe);
        if self.refused.insert(id) && self.refused.len() == 1 {
            self.try_at = self.ctx.now.after(RETRY);
        }
    }

    /// A stream that is over and waits stays until it has written what is held; false if it does not wait.
    pub(super) fn lingers(&mut self, id: Writer) -> bool {
        let Some(stream) = self.streams.get_mut(&id).filter(|stream| stream.refused.is_some()) else {
            return false;
        };
        stream.finishing = true;
        let run = stream.key.run;
        self.wait_for_room(id);
        self.forget_stream(run, id);
        true
    }

    /// Tries those again that wait.
    pub(super) fn try_refused(&mut self) {
        if self.refused.is_empty() || self.try_at > self.ctx.now {
            return;
        }
        self.tick();
        self.try_at = self.ctx.now.after(RETRY);
        for id in std::mem::take(&mut self.refused) {
            let Some(stream) = self.streams.get_mut(&id) else {
                continue;
            };
            if !stream.try_again(&mut self.ctx, &mut self.scratch) {
                self.refused.insert(id);
                continue;
            }
            if !stream.finishing {
                // Known already only if it was never taken out.
                let _known = self.epoll.add(&stream.pipe, EpollEvent::new(EpollFlags::EPOLLIN, id));
                continue;
            }
            let run = stream.key.run;
            let known = self.runs.contains_key(&run);
            self.serve(id, DRAIN, true);
            self.remove(id);
            if !known {
                // Reading has made it known again.
                self.forget(run);
            }
        }
    }
}
