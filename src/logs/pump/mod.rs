//! The handle of the pump thread: commands in, notices out.
//!
//! Commands are carried out in the order they are given, between two rounds of reading.

mod attach;
mod commands;
mod drops;
mod nap;
mod outlets;
mod patience;
mod remotes;
mod runs;
mod stream;
mod worker;

#[cfg(test)]
mod kill_tests;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::eventfd::{EfdFlags, EventFd};
use regex::bytes::Regex;

use crate::logs::file::Counters;
use crate::logs::journal::Journal;
use crate::logs::sink::{Notice, Sink, Stats, StreamKey};
use crate::logs::target::Sockets;
use crate::logs::tidy::Known;
use crate::model::logspec::Stream;
use crate::model::names::{AppName, RunId};
use crate::model::time::WallTime;
use crate::os::console::Console;
use worker::Worker;

/// Called with the last stderr lines of a run, on the pump's thread.
pub type TailReply = Box<dyn FnOnce(Vec<String>) + Send>;

enum Command {
    Attach(StreamKey, OwnedFd, Box<Sink>),
    Drain(RunId),
    Detach(RunId),
    Flush(Vec<PathBuf>),
    Reopen(Option<Vec<PathBuf>>),
    Know(AppName, Vec<Known>),
    WatchLine(RunId, Box<Regex>),
    Tail(RunId, TailReply),
    Sync(Box<dyn FnOnce() + Send>),
    Console(Stream, Console),
    Say(Vec<u8>),
    Targets(Sockets),
    ForgetUnclaimed,
    Times(PathBuf),
}

/// Moves app output from pipes to files on a thread of its own. Dropping the last clone ends the
/// thread and waits for it: what is in the pipes stays there, and so does, in the journal, the beginning
/// of a line that is held; without a journal it is written as it is.
#[derive(Clone)]
pub struct Pump {
    shared: Arc<Shared>,
}

struct Shared {
    commands: Option<Sender<Command>>,
    thread: Option<JoinHandle<()>>,
    wake: Arc<EventFd>,
    counters: Arc<Counters>,
}

impl std::fmt::Debug for Pump {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Pump").field(&self.stats()).finish()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.commands = None;
        let _woken = self.wake.write(1);
        // A reply may own the last handle; the thread cannot wait for itself.
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != thread::current().id()
        {
            let _ended = thread.join();
        }
    }
}

impl Pump {
    /// Starts the thread "logs". `clock` tells the time for stamps and rotation; `notify` is called on
    /// the thread and must not block. With a `journal` a kill of this process costs no byte.
    ///
    /// # Errors
    /// When the kernel gives no epoll, eventfd or thread.
    pub fn start(
        clock: fn() -> WallTime,
        notify: Box<dyn Fn(Notice) + Send>,
        journal: Option<Journal>,
    ) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
        epoll.add(&wake, EpollEvent::new(EpollFlags::EPOLLIN, worker::WAKE))?;
        let (commands, queue) = channel();
        let counters = Arc::new(Counters::default());
        let mut shared = Shared {
            commands: Some(commands),
            thread: None,
            wake: Arc::clone(&wake),
            counters: Arc::clone(&counters),
        };
        let thread = thread::Builder::new()
            .name("logs".into())
            .spawn(move || Worker::new(epoll, wake, queue, clock, notify, counters, journal).run())?;
        shared.thread = Some(thread);
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Reads this pipe from now on, until its end or [`Self::detach`]. The descriptor is made
    /// non-blocking (for all who share it).
    pub fn attach(&self, key: StreamKey, pipe: OwnedFd, sink: Sink) {
        self.send(Command::Attach(key, pipe, Box::new(sink)));
    }

    /// The process has exited: writes all it left in its pipes and sends [`Notice::Drained`]. The
    /// pipes stay attached, because its children may still write. An unknown run is drained already.
    pub fn drain(&self, run: RunId) {
        self.send(Command::Drain(run));
    }

    /// Drains without a notice and closes this side of the pipes; the run is forgotten.
    pub fn detach(&self, run: RunId) {
        self.send(Command::Detach(run));
    }

    /// Empties these logs and removes their rotated files.
    pub fn flush(&self, paths: Vec<PathBuf>) {
        self.send(Command::Flush(paths));
    }

    /// Opens these files anew, or all (an external logrotate renamed them). Afterwards nothing is written to the old
    /// ones, and no line begins in one file and ends in the other.
    pub fn reopen(&self, paths: Option<Vec<PathBuf>>) {
        self.send(Command::Reopen(paths));
    }

    /// These are all logs of an app, running or not: their rotated files are kept within their bounds.
    pub fn know(&self, app: AppName, logs: Vec<Known>) {
        self.send(Command::Know(app, logs));
    }

    /// Looks for a line in what this run writes from now on; replaces an earlier pattern. Ask before
    /// attaching to miss nothing.
    pub fn watch_line(&self, run: RunId, pattern: Regex) {
        self.send(Command::WatchLine(run, Box::new(pattern)));
    }

    /// The last stderr lines of a run, at most 100 and 64 KiB.
    pub fn tail(&self, run: RunId, reply: TailReply) {
        self.send(Command::Tail(run, reply));
    }

    /// Calls `done` on the pump's thread when all earlier commands are carried out.
    pub fn sync(&self, done: Box<dyn FnOnce() + Send>) {
        self.send(Command::Sync(done));
    }

    /// Streams whose sink says so are written to this, too.
    pub fn console(&self, stream: Stream, console: Console) {
        self.send(Command::Console(stream, console));
    }

    /// Targets that are no files are at these sockets. To be said before a stream is attached; what a former process
    /// had left for them is sent.
    pub fn targets(&self, sockets: Sockets) {
        self.send(Command::Targets(sockets));
    }

    /// Writes lines of our own to the console's standard error, if there is one.
    pub fn say(&self, lines: Vec<u8>) {
        self.send(Command::Say(lines));
    }

    /// All streams that live on are attached: what a former process had read of others is forgotten.
    pub fn forget_unclaimed(&self) {
        self.send(Command::ForgetUnclaimed);
    }

    /// From now on it is written down below this folder when what was written, see [`crate::logs::times`].
    pub fn keep_times(&self, folder: PathBuf) {
        self.send(Command::Times(folder));
    }

    /// Numbers.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let counters = &self.shared.counters;
        Stats {
            streams: counters.streams.load(Ordering::Relaxed),
            outages: counters.outages.load(Ordering::Relaxed),
            bytes: counters.bytes.load(Ordering::Relaxed),
            lost_lines: counters.lost_lines.load(Ordering::Relaxed),
            lost_bytes: counters.lost_bytes.load(Ordering::Relaxed),
            rotations: counters.rotations.load(Ordering::Relaxed),
        }
    }

    fn send(&self, command: Command) {
        if let Some(commands) = &self.shared.commands
            && commands.send(command).is_ok()
        {
            let _woken = self.shared.wake.write(1);
        }
    }
}
