//! The pump's thread: waits, reads, writes, carries out commands.

use std::collections::{BTreeSet, HashMap};
use std::os::fd::AsFd;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollEvent, EpollTimeout};
use nix::sys::eventfd::EventFd;

use crate::logs::clock::monotonic;
use crate::logs::compress::Compressor;
use crate::logs::file::{Context, Counters, Spliced, Writer};
use crate::logs::frame::Stampers;
use crate::logs::journal::{Buffer, Filled, Journal};
use crate::logs::pump::Command;
use crate::logs::pump::drops::Drops;
use crate::logs::pump::drops::gate::{Turn, read};
use crate::logs::pump::nap::Nap;
use crate::logs::pump::patience::PINCH;
use crate::logs::pump::runs::Run;
use crate::logs::pump::stream::{Scratch, SharedFile, Stream};
use crate::logs::sink::Notice;
use crate::logs::target::{Remote, Remotes};
use crate::logs::tidy::Tidy;
use crate::logs::times::Book;
use crate::logs::words::LastWords;
use crate::model::logspec;
use crate::model::names::RunId;
use crate::model::time::{Moment, WallTime};

/// The event of a command; every other number is a stream's.
pub(super) const WAKE: Writer = Writer::MAX;
/// The event of a standard stream: this minus 0 for standard output, minus 1 for standard error.
pub(super) const OUTLETS: Writer = Writer::MAX - 1;
/// The events of targets: this plus 1, plus their number. The standard streams' are above them.
pub(super) const REMOTES: Writer = Writer::MAX - 5;
/// The one read buffer.
const BUFFER: usize = 256 << 10;
/// Bytes read at once for a standard stream: what is lost at most if this process is killed while it is stalled.
const CONSOLE: usize = 64 << 10;
/// Bytes a stream may move before the others get their turn.
pub(super) const BUDGET: usize = 1 << 20;
/// More than any pipe holds: what a drain reads at most, however fast a grandchild writes.
pub(super) const DRAIN: usize = if cfg!(test) { 512 << 10 } else { 2 << 20 };
/// A read of fewer bytes has emptied the pipe, most likely. In tests journals take little at once.
const SHORT: usize = if cfg!(test) { 100 } else { 4096 };

pub(super) struct Worker {
    pub(super) epoll: Epoll,
    pub(super) wake: Arc<EventFd>,
    pub(super) queue: Receiver<Command>,
    clock: fn() -> WallTime,
    pub(super) ctx: Context,
    pub(super) streams: HashMap<Writer, Stream>,
    pub(super) files: HashMap<Rc<Path>, SharedFile>,
    pub(super) runs: HashMap<RunId, Run>,
    pub(super) next: Writer,
    pub(super) buffer: Buffer,
    pub(super) scratch: Scratch,
    nap: Nap,
    /// While a stream rather loses lines than waits.
    pub(super) drops: Option<Drops>,
    /// Streams that wait for room on a full disk, and when they are tried again.
    pub(super) refused: BTreeSet<Writer>,
    pub(super) try_at: Moment,
    /// Something large was moved in this round.
    pub(super) busy: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum After {
    Waits,
    Ended,
}

impl Worker {
    pub(super) fn new(
        epoll: Epoll,
        wake: Arc<EventFd>,
        queue: Receiver<Command>,
        clock: fn() -> WallTime,
        notify: Box<dyn Fn(Notice) + Send>,
        counters: Arc<Counters>,
        mut journal: Option<Journal>,
    ) -> Self {
        let own = || Buffer::Own(vec![0; BUFFER].into_boxed_slice());
        let buffer = journal.as_mut().and_then(Journal::take_buffer).unwrap_or_else(own);
        let ctx = Context {
            wall: clock(),
            now: monotonic(),
            notify,
            stampers: Stampers::default(),
            compressor: Compressor::beside(Arc::clone(&counters)),
            tidy: Tidy::default(),
            counters,
            outlets: [None, None],
            remotes: Remotes::default(),
            journal,
            times: Book::default(),
        };
        Self {
            epoll,
            wake,
            queue,
            clock,
            ctx,
            streams: HashMap::new(),
            files: HashMap::new(),
            runs: HashMap::new(),
            next: 0,
            buffer,
            scratch: Scratch::default(),
            nap: Nap::default(),
            refused: BTreeSet::new(),
            try_at: Moment(0),
            drops: None,
            busy: false,
        }
    }

    pub(super) fn run(mut self) {
        let mut events = [EpollEvent::empty(); 64];
        loop {
            let count = match self.epoll.wait(&mut events, self.timeout()) {
                Ok(count) => count,
                Err(Errno::EINTR) => 0,
                // The descriptor is ours and open; nothing else can be wrong with it.
                Err(_) => return,
            };
            self.tick();
            let began = self.ctx.now;
            if let Some(drops) = &self.drops {
                drops.begin(began);
            }
            let mut woken = false;
            for event in events.iter().take(count) {
                match event.data() {
                    WAKE => woken = true,
                    OUTLETS => self.outlet_ready(0),
                    event if event == OUTLETS - 1 => self.outlet_ready(1),
                    event if event > REMOTES => self.remote_ready(),
                    id => {
                        self.serve(id, BUDGET, false);
                    }
                }
            }
            if woken {
                let _reset = self.wake.read();
                if !self.commands() {
                    self.finish();
                    return self.ctx.times.save();
                }
            }
            self.bridge();
            self.retry();
            self.try_refused();
            self.tidy_up();
            self.ctx.times.tick(self.ctx.now);
            self.wait_for_readers();
            self.wait_for_remotes();
            if let Some(drops) = &self.drops {
                drops.rest();
            }
            self.rest(began);
        }
    }

    /// Lets lines gather; a command ends it.
    fn rest(&mut self, began: Moment) {
        let busy = std::mem::take(&mut self.busy);
        let Some(nap) = self.nap.after(began, busy) else { return };
        // Nobody waits for a line but those who start an app by one.
        if self.runs.values().any(|run| run.watch.is_some()) {
            return;
        }
        let mut wake = [PollFd::new(self.wake.as_fd(), PollFlags::POLLIN)];
        let _ended = poll(&mut wake, PollTimeout::try_from(nap.0).unwrap_or(PollTimeout::ZERO));
    }

    pub(super) fn tick(&mut self) {
        self.ctx.wall = (self.clock)();
        self.ctx.now = monotonic();
    }

    /// Never, unless a file or another target is failing, a stream waits for room, times wait to be written down or
    /// rotated files are to be looked at.
    fn timeout(&self) -> EpollTimeout {
        let failing = self.ctx.counters.outages.load(Ordering::Relaxed) > 0;
        let files = self.files.values().filter(|_| failing);
        let next = files.filter_map(|file| file.borrow().retry_at());
        let remotes = self.ctx.remotes.iter().filter_map(Remote::retry_at);
        let next = next.chain(remotes).chain(self.ctx.times.due());
        let next = next.min().map(|at| at.since(self.ctx.now));
        let tidy = self.ctx.tidy.wait(self.ctx.now, self.ctx.wall);
        let next = [next, tidy, self.waiting()].into_iter().flatten().min();
        next.map_or(EpollTimeout::NONE, |wait| {
            EpollTimeout::try_from(wait.0 + 1).unwrap_or(EpollTimeout::MAX)
        })
    }

    /// Keeps rotated files within their bounds.
    fn tidy_up(&mut self) {
        let ctx = &mut self.ctx;
        let (told, removed) = ctx.tidy.go(ctx.now, ctx.wall, ctx.compressor.shelf(), &self.wake);
        if let Some(removal) = told {
            (ctx.notify)(Notice::Removed(removal));
        }
        if removed {
            self.hurry();
        }
    }

    /// There may be room again.
    pub(super) fn hurry(&mut self) {
        for file in self.files.values() {
            file.borrow_mut().hurry();
        }
        self.retry();
        self.try_at = self.ctx.now;
        self.try_refused();
    }

    fn retry(&mut self) {
        if self.ctx.counters.outages.load(Ordering::Relaxed) == 0 {
            return;
        }
        self.tick();
        let ctx = &mut self.ctx;
        self.files.retain(|_, file| {
            let alone = Rc::strong_count(file) == 1;
            let mut file = file.borrow_mut();
            file.retry(ctx);
            !alone || file.failing()
        });
    }

    /// Moves at most `budget` bytes. `all`: until the pipe is seen empty. True if it was.
    pub(super) fn serve(&mut self, id: Writer, budget: usize, all: bool) -> bool {
        let mut left = budget;
        let mut after = None;
        while left > 0 {
            match self.step(id, left, all) {
                Ok(count) => left = left.saturating_sub(count),
                Err(end) => {
                    after = Some(end);
                    break;
                }
            }
        }
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.park(&mut self.ctx);
        }
        self.wait_for_room(id);
        if after == Some(After::Ended) {
            self.remove(id);
        }
        after.is_some()
    }

    fn step(&mut self, id: Writer, left: usize, all: bool) -> Result<usize, After> {
        let stream = self.streams.get_mut(&id).ok_or(After::Waits)?;
        if !all && stream.refused.is_some() {
            return Err(After::Waits);
        }
        if !all && stream.must_wait(&self.ctx) {
            // Its end would be an event without end while nobody reads it.
            let _known = self.epoll.delete(&stream.pipe);
            if let Some(console) = &mut stream.console {
                console.paused = true;
                if let Some(outlet) = &mut self.ctx.outlets[console.outlet] {
                    outlet.awaited = true;
                }
            }
            return Err(After::Waits);
        }
        let run = self.runs.entry(stream.key.run).or_default();
        let is_err = stream.key.stream == logspec::Stream::Err;
        let count = 'moved: {
            // A splice into a file keeps the writer out of its pipe all the while, which slows down one that is busy.
            let reads = stream.large_pipe && self.ctx.journal.as_ref().is_some_and(Journal::is_mapped);
            if !is_err && run.watch.is_none() && !reads {
                match stream.splice(&mut self.ctx, left) {
                    Spliced::Moved(count) => break 'moved count,
                    Spliced::Empty => return Err(After::Waits),
                    Spliced::End => return Err(After::Ended),
                    Spliced::Cannot => {}
                }
            }
            let most = if stream.console.is_some() { CONSOLE } else { BUFFER };
            let most = if self.refused.is_empty() { most } else { most.min(PINCH) };
            let size = left.min(most);
            let filled = match (stream.gate.clone(), &mut self.ctx.journal) {
                (Some(gate), _) => match gate.turn(self.buffer.lend(&mut self.ctx.journal, size), all) {
                    Turn::Wait => Filled::Empty,
                    Turn::Read(lock) => {
                        let buffer = self.buffer.lend(&mut self.ctx.journal, size);
                        let filled = read(&stream.pipe, buffer);
                        drop(lock);
                        stream.note_read(&mut self.ctx, &filled, buffer);
                        filled
                    }
                    Turn::Bridge(gap) => {
                        if is_err {
                            let last = run.last.get_or_insert_default();
                            last.push(&gap.head);
                            last.push(&gap.tail);
                        }
                        stream.bridge(&mut self.ctx, &mut self.scratch, gap);
                        Filled::Moved(0..0)
                    }
                },
                (None, Some(journal)) if stream.writes() => {
                    let held = (&stream.held[..], stream.parked);
                    let buffer = (&mut self.buffer, size);
                    journal.fill(self.ctx.now, stream.key, held, &stream.pipe, buffer)
                }
                (None, _) => Filled::Cannot,
            };
            let filled = match filled {
                Filled::Cannot => read(&stream.pipe, self.buffer.lend(&mut self.ctx.journal, size)),
                Filled::Moved(_) | Filled::Full | Filled::Empty | Filled::End => filled,
            };
            let range = match filled {
                Filled::Moved(range) if range.is_empty() => return Ok(0),
                Filled::Moved(range) => range,
                Filled::Full => {
                    stream.park(&mut self.ctx);
                    return Ok(0);
                }
                Filled::Empty => return Err(After::Waits),
                Filled::End | Filled::Cannot => return Err(After::Ended),
            };
            let data = self.buffer.bytes().get(range).unwrap_or_default();
            self.ctx.wall = (self.clock)();
            if is_err {
                let folder = self.ctx.journal.as_ref().map(Journal::folder);
                run.last
                    .get_or_insert_with(|| Box::new(LastWords::new(folder, stream.key.run)))
                    .push(data);
            }
            if let Some(watch) = &mut run.watch
                && watch.found(usize::from(is_err), data)
            {
                run.watch = None;
                (self.ctx.notify)(Notice::LineMatched { run: stream.key.run });
            }
            stream.write(&mut self.ctx, &mut self.scratch, data);
            data.len()
        };
        self.ctx.counters.bytes.fetch_add(count as u64, Ordering::Relaxed);
        stream.moved(count);
        self.busy |= count >= SHORT;
        if count < SHORT && !all {
            return Err(After::Waits);
        }
        Ok(count)
    }

    /// Without a journal, lines that are held are written as they are.
    fn finish(&mut self) {
        self.leave_gates();
        if self.ctx.journal.is_some() {
            return;
        }
        for stream in self.streams.values_mut() {
            if !stream.held.is_empty() {
                stream.finish_line(&mut self.ctx, &mut self.scratch);
            }
        }
        for outlet in self.ctx.outlets.iter_mut().flatten() {
            outlet.farewell();
        }
    }
}
