//! `log_overflow = "drop"`: the app goes on, however slowly its log is written.
//!
//! Nobody can say beforehand that a write to a file will be slow, and the pump, which serves everybody, is inside it
//! then. So a second thread, "logs-drop", watches over the pipes of the streams that rather lose lines:
//!
//! ```text
//!            the pump is inside a round for 20 ms          it reads this pipe again
//!   pipe ──► pump ───────────────────────► pipe ──► gap ──────────────────────────► head, marker, tail, pipe ──► …
//!                                          (only what is about to overflow)
//! ```
//!
//! The pipe is the buffer: only when it is about to be full the oldest of what is in it is taken and thrown away.
//! So the lost lines are next to each other, the pump's place in the stream is where they would have been, and
//! it needs a [`Gap`](gap::Gap) of a few KiB to join both sides. An app waits for at most these 20 ms, once,
//! before the other thread stands in.
//!
//! These pipes are read, not spliced: the kernel locks a pipe while it waits for the disk inside a splice. The
//! journal knows of what was read a moment later than of a splice. What a gap counts is in memory: `kill -9` of the
//! process while the disk is too slow loses the count, and what is in the log then has no marker there.
//!
//! The thread exists while there is such a stream, and costs nothing while the pump has nothing to do.

mod bridge;
pub(super) mod gap;
pub(super) mod gate;

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::logs::clock::monotonic;
use crate::model::time::Moment;
use gate::{Gate, PATIENCE};

/// How often the pump is looked at while it is in a round, in milliseconds.
const TICK: u8 = 10;
/// So many looks at an idle pump, and its next round has to wake the thread.
const CALM: u8 = 3;
/// Bytes read at once.
const BUFFER: usize = 64 << 10;

/// What both threads know.
#[derive(Debug)]
struct Shared {
    gates: Mutex<Vec<Arc<Gate>>>,
    /// Tells of every write to one of the pipes; waited for only while the pump is late.
    epoll: Epoll,
    /// When the pump's round began; 0: it waits for something to do.
    round: AtomicU64,
    /// The thread wants to be woken by the next round.
    asleep: AtomicBool,
    wake: EventFd,
    /// Some gate has something for the pump.
    news: AtomicBool,
    pump: Arc<EventFd>,
    end: AtomicBool,
}

/// The pump's side. Dropping it ends the thread.
#[derive(Debug)]
pub(super) struct Drops {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Drops {
    /// Starts the thread. `pump` is written to when a gate has something for the pump.
    pub(super) fn start(pump: Arc<EventFd>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            gates: Mutex::default(),
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            // Whoever starts it is in a round.
            round: AtomicU64::new(monotonic().0),
            asleep: AtomicBool::new(false),
            wake: EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?,
            news: AtomicBool::new(false),
            pump,
            end: AtomicBool::new(false),
        });
        let watcher = Watcher(Arc::clone(&shared));
        let thread = thread::Builder::new()
            .name("logs-drop".into())
            .stack_size(128 << 10)
            .spawn(move || watcher.run())?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Watches over this pipe.
    pub(super) fn add(&self, pipe: impl AsFd) -> io::Result<Arc<Gate>> {
        let gate = Arc::new(Gate::new(pipe.as_fd().try_clone_to_owned()?, monotonic()));
        let event = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, 0);
        self.shared.epoll.add(gate.pipe(), event)?;
        self.shared.gates().push(Arc::clone(&gate));
        Ok(gate)
    }

    /// Not any more. True if it was the last one.
    pub(super) fn remove(&self, gate: &Arc<Gate>) -> bool {
        // The keeper has the same pipe open, so closing alone would not end its events.
        let _known = self.shared.epoll.delete(gate.pipe());
        let mut gates = self.shared.gates();
        gates.retain(|other| !Arc::ptr_eq(other, gate));
        gates.is_empty()
    }

    /// The pump begins a round.
    pub(super) fn begin(&self, now: Moment) {
        self.shared.round.store(now.0, Ordering::SeqCst);
        if self.shared.asleep.load(Ordering::SeqCst) && self.shared.asleep.swap(false, Ordering::SeqCst) {
            let _woken = self.shared.wake.write(1);
        }
    }

    /// The pump waits for something to do.
    pub(super) fn rest(&self) {
        self.shared.round.store(0, Ordering::SeqCst);
    }

    /// Whether some gate has something for the pump, since the last question.
    pub(super) fn has_news(&self) -> bool {
        self.shared.news.swap(false, Ordering::SeqCst)
    }
}

impl Drop for Drops {
    fn drop(&mut self) {
        self.shared.end.store(true, Ordering::SeqCst);
        let _woken = self.shared.wake.write(1);
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

impl Shared {
    fn gates(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Gate>>> {
        self.gates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread.
struct Watcher(Arc<Shared>);

impl Watcher {
    fn run(self) {
        let mut buffer = vec![0; BUFFER].into_boxed_slice();
        while !self.0.end.load(Ordering::SeqCst) {
            self.sleep();
            let mut calm = 0;
            while calm < CALM && !self.0.end.load(Ordering::SeqCst) {
                match self.late() {
                    Some(began) => self.stand_in(began, &mut buffer),
                    None => self.wait(PollTimeout::from(TICK)),
                }
                calm = if self.round().is_some() { 0 } else { calm + 1 };
            }
        }
    }

    /// Until the pump's next round.
    fn sleep(&self) {
        self.0.asleep.store(true, Ordering::SeqCst);
        // It began before it could know.
        if self.round().is_none() {
            self.wait(PollTimeout::NONE);
        }
        self.0.asleep.store(false, Ordering::SeqCst);
    }

    fn wait(&self, timeout: PollTimeout) {
        let mut wake = [PollFd::new(self.0.wake.as_fd(), PollFlags::POLLIN)];
        let _ended = poll(&mut wake, timeout);
        let _reset = self.0.wake.read();
    }

    fn round(&self) -> Option<Moment> {
        let began = self.0.round.load(Ordering::SeqCst);
        (began > 0).then_some(Moment(began))
    }

    /// When the round began that takes too long.
    fn late(&self) -> Option<Moment> {
        self.round().filter(|began| monotonic().since(*began) >= PATIENCE)
    }

    /// Until the pump has finished its round.
    fn stand_in(&self, began: Moment, buffer: &mut [u8]) {
        let mut events = [EpollEvent::empty(); 16];
        while self.late() == Some(began) && !self.0.end.load(Ordering::SeqCst) {
            // Not held while one of them is read: the pump may want to add one.
            let gates = self.0.gates().clone();
            let mut more = false;
            for gate in gates {
                more |= gate.relieve(began, buffer);
            }
            if more {
                self.tell();
            } else {
                let _ended = self.0.epoll.wait(&mut events, EpollTimeout::from(TICK));
            }
        }
    }

    fn tell(&self) {
        if !self.0.news.swap(true, Ordering::SeqCst) {
            let _woken = self.0.pump.write(1);
        }
    }
}
