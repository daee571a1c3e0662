//! The pump's thread: waits, reads, writes, carries out commands.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, TryRecvError};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::EventFd;

use crate::logs::clock::monotonic;
use crate::logs::compress::Compressor;
use crate::logs::file::{Context, Counters, LogFile, Spliced, Writer, flush};
use crate::logs::frame::{Framing, Stampers};
use crate::logs::journal::{Buffer, Filled, Journal};
use crate::logs::pump::Command;
use crate::logs::pump::drops::Drops;
use crate::logs::pump::drops::gate::{Turn, read};
use crate::logs::pump::nap::Nap;
use crate::logs::pump::patience::PINCH;
use crate::logs::pump::stream::{ConsoleEnd, Scratch, SharedFile, Stream, outlet_of};
use crate::logs::sink::{Loss, Notice, Sink, StreamKey};
use crate::logs::target::{Ends, Remote, Remotes};
use crate::logs::tidy::Tidy;
use crate::logs::times::Book;
use crate::logs::watch::Watch;
use crate::logs::words::{self, LastWords};
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
/// Writing here is the same as writing nothing, and needs no journal.
const NULL: &str = "/dev/null";
/// Bytes a stream may move before the others get their turn.
pub(super) const BUDGET: usize = 1 << 20;
/// More than any pipe holds: what a drain reads at most, however fast a grandchild writes.
pub(super) const DRAIN: usize = if cfg!(test) { 512 << 10 } else { 2 << 20 };
/// A read of fewer bytes has emptied the pipe, most likely. In tests journals take little at once.
const SHORT: usize = if cfg!(test) { 100 } else { 4096 };

/// What is kept of a run.
#[derive(Default)]
pub(super) struct Run {
    /// Its attached streams, by [`logspec::Stream`].
    streams: [Option<Writer>; 2],
    last: Option<Box<LastWords>>,
    watch: Option<Box<Watch>>,
    drained: bool,
}

pub(super) struct Worker {
    pub(super) epoll: Epoll,
    pub(super) wake: Arc<EventFd>,
    queue: Receiver<Command>,
    clock: fn() -> WallTime,
    pub(super) ctx: Context,
    pub(super) streams: HashMap<Writer, Stream>,
    files: HashMap<Rc<Path>, SharedFile>,
    pub(super) runs: HashMap<RunId, Run>,
    next: Writer,
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
    fn hurry(&mut self) {
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

    /// False when there will be no more.
    fn commands(&mut self) -> bool {
        loop {
            match self.queue.try_recv() {
                Ok(command) => self.perform(command),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn perform(&mut self, command: Command) {
        self.tick();
        match command {
            Command::Attach(key, pipe, sink) => {
                if let Err(error) = self.attach(key, pipe, &sink) {
                    (self.ctx.notify)(Notice::Lost(Loss {
                        app: sink.origin.app.clone(),
                        slot: sink.origin.slot,
                        path: sink.path.clone(),
                        lines: 0,
                        bytes: 0,
                        error: error.to_string(),
                    }));
                }
            }
            Command::Drain(run) => {
                self.drain(run);
                let stderr = self.last_lines(run);
                if let Some(state) = self.runs.get_mut(&run) {
                    state.drained = true;
                }
                self.forget_ended(run);
                (self.ctx.notify)(Notice::Drained { run, stderr });
            }
            Command::Detach(run) => {
                self.drain(run);
                for id in self.ids(run) {
                    self.remove(id);
                }
                self.forget(run);
            }
            Command::Flush(paths) => self.flush(&paths),
            Command::Know(app, logs) => self.ctx.tidy.know(app, logs, self.ctx.now),
            Command::Reopen(paths) => self.reopen(paths.as_deref()),
            Command::WatchLine(run, pattern) => {
                self.runs.entry(run).or_default().watch = Some(Box::new(Watch::new(*pattern)));
            }
            Command::Tail(run, reply) => reply(self.last_lines(run)),
            Command::Sync(done) => done(),
            Command::Console(stream, console) => self.open_outlet(outlet_of(stream), console),
            Command::Targets(sockets) => self.open_remotes(sockets),
            Command::Say(lines) => {
                if let Some(outlet) = &mut self.ctx.outlets[outlet_of(logspec::Stream::Err)] {
                    outlet.push(b"", &lines);
                }
            }
            Command::Times(folder) => {
                let _set = self.ctx.compressor.shelf().times.set(folder.as_path().into());
                // Without it times are missing, and nothing else.
                let _begun = self.ctx.times.begin(self.ctx.now, folder);
            }
            Command::ForgetUnclaimed => {
                if let Some(journal) = &mut self.ctx.journal {
                    journal.forget_unclaimed();
                    words::forget_others(journal.folder(), |run| self.runs.contains_key(&run));
                }
            }
        }
    }

    fn attach(&mut self, key: StreamKey, pipe: OwnedFd, sink: &Sink) -> io::Result<()> {
        let flags = OFlag::from_bits_retain(fcntl(&pipe, FcntlArg::F_GETFL)?);
        fcntl(&pipe, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        let gate = self.gate(&pipe, sink)?;
        let framing = Rc::new(Framing::new(
            &sink.format,
            sink.zone.as_deref(),
            &sink.origin,
            key.stream,
            &mut self.ctx.stampers,
        ));
        let id = self.next;
        self.epoll.add(&pipe, EpollEvent::new(EpollFlags::EPOLLIN, id))?;
        self.next += 1;
        let second = sink.log_file.as_ref().filter(|second| **second != sink.path);
        let (file, log_file) = if sink.disabled {
            (None, None)
        } else {
            let mut open = |path: &Path| (path != Path::new(NULL)).then(|| self.file(path, sink, &framing));
            (open(&sink.path), second.and_then(|path| open(path)))
        };
        let console = ConsoleEnd::new(key, sink, &mut self.ctx);
        let ends = Ends::new(sink, key.stream, &mut self.ctx.remotes);
        let run = self.runs.entry(key.run).or_default();
        let old = run.streams[usize::from(key.stream == logspec::Stream::Err)].replace(id);
        run.drained = false;
        self.streams.insert(
            id,
            Stream {
                key,
                pipe,
                id,
                framing,
                file,
                log_file,
                console,
                ends,
                shared: sink.shared || (sink.log_file.is_some() && second.is_none()),
                adopted: sink.adopted,
                held: Vec::new(),
                parked: 0,
                refused: None,
                patient: sink.overflow == logspec::Overflow::Block,
                finishing: false,
                streak: 0,
                large_pipe: false,
                gate,
                exited: false,
            },
        );
        self.ctx.counters.streams.fetch_add(1, Ordering::Relaxed);
        if let Some(old) = old {
            self.remove(old);
        }
        if sink.adopted {
            self.write_claimed(id);
        }
        Ok(())
    }

    /// What a former process had read of this stream comes before what is in its pipe.
    fn write_claimed(&mut self, id: Writer) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let Some(journal) = &mut self.ctx.journal else { return };
        let key = stream.key;
        let last = (key.stream == logspec::Stream::Err).then(|| {
            let run = self.runs.entry(key.run).or_default();
            run.last
                .insert(Box::new(LastWords::again(Some(journal.folder()), key.run)))
        });
        let data = journal.claim(key);
        if data.is_empty() {
            return;
        }
        if let Some(last) = last {
            last.push_again(&data);
        }
        stream.write_claimed(&mut self.ctx, &mut self.scratch, &data);
        self.wait_for_room(id);
    }

    fn file(&mut self, path: &Path, sink: &Sink, framing: &Rc<Framing>) -> SharedFile {
        if let Some(file) = self.files.get(path) {
            for stream in self.streams.values_mut() {
                if stream.file.as_ref().is_some_and(|other| Rc::ptr_eq(other, file)) {
                    stream.hold_back(&mut self.ctx, &mut self.scratch);
                }
            }
            let mut known = file.borrow_mut();
            known.configure(&sink.rotate, framing, &sink.origin);
            known.count_in(sink.zone.as_deref());
            drop(known);
            return Rc::clone(file);
        }
        let path: Rc<Path> = path.into();
        if sink.adopted && sink.rotate.compress {
            // The file may not be written again for a long time.
            self.ctx.compressor.resume(&path);
        }
        let mut file = LogFile::new(
            Rc::clone(&path),
            sink.rotate.clone(),
            sink.private_folder,
            Rc::clone(framing),
            Arc::clone(&sink.origin),
        );
        file.count_in(sink.zone.as_deref());
        let file = Rc::new(RefCell::new(file));
        self.files.insert(path, Rc::clone(&file));
        file
    }

    fn ids(&self, run: RunId) -> impl Iterator<Item = Writer> + use<> {
        self.runs
            .get(&run)
            .map_or([None, None], |run| run.streams)
            .into_iter()
            .flatten()
    }

    fn drain(&mut self, run: RunId) {
        for id in self.ids(run) {
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.exited = true;
            }
            // What is left when so much was read was written after the exit: its line goes on.
            if self.serve(id, DRAIN, true)
                && let Some(stream) = self.streams.get_mut(&id)
            {
                stream.finish_line(&mut self.ctx, &mut self.scratch);
            }
            self.wait_for_room(id);
        }
    }

    fn last_lines(&self, run: RunId) -> Vec<String> {
        let last = self.runs.get(&run).and_then(|run| run.last.as_ref());
        last.map(|last| last.lines()).unwrap_or_default()
    }

    /// Ends a stream. The keeper has the same pipe open, so closing alone would not end its events.
    pub(super) fn remove(&mut self, id: Writer) {
        if let Some(mut stream) = self.streams.remove(&id) {
            self.leave_gate(&mut stream);
            stream.finish_line(&mut self.ctx, &mut self.scratch);
            self.streams.insert(id, stream);
        }
        if self.lingers(id) {
            return;
        }
        self.refused.remove(&id);
        let Some(mut stream) = self.streams.remove(&id) else {
            return;
        };
        let _known = self.epoll.delete(&stream.pipe);
        self.ctx.counters.streams.fetch_sub(1, Ordering::Relaxed);
        let key = stream.key;
        if let Some(journal) = self.ctx.journal.as_ref().filter(|_| stream.parked > 0) {
            journal.forget(key);
        }
        let paths: Vec<SharedFile> = [stream.file.take(), stream.log_file.take()]
            .into_iter()
            .flatten()
            .collect();
        for file in paths {
            // One count is the table's, one is this.
            if Rc::strong_count(&file) == 2 && !file.borrow().failing() {
                self.files.remove(file.borrow().path());
            }
        }
        self.forget_stream(key.run, id);
    }

    /// This stream is not the run's any more.
    pub(super) fn forget_stream(&mut self, run: RunId, id: Writer) {
        if let Some(run) = self.runs.get_mut(&run) {
            run.streams
                .iter_mut()
                .filter(|other| **other == Some(id))
                .for_each(|other| *other = None);
        }
        self.forget_ended(run);
    }

    fn forget_ended(&mut self, run: RunId) {
        if self
            .runs
            .get(&run)
            .is_some_and(|run| run.drained && run.streams == [None, None])
        {
            self.forget(run);
        }
    }

    pub(super) fn forget(&mut self, run: RunId) {
        if let Some(last) = self.runs.remove(&run).and_then(|run| run.last) {
            last.forget();
        }
    }

    fn reopen(&mut self, paths: Option<&[PathBuf]>) {
        for (path, file) in &self.files {
            if paths.is_none_or(|paths| paths.iter().any(|wanted| **wanted == **path)) {
                file.borrow_mut().reopen(&mut self.ctx);
            }
        }
    }

    fn flush(&mut self, paths: &[PathBuf]) {
        if let Some(journal) = &mut self.ctx.journal {
            journal.settle();
        }
        for path in paths {
            match self.files.get(path.as_path()) {
                Some(file) => {
                    let streams = &self.streams;
                    let lives = |writer: Option<Writer>| match writer {
                        Some(writer) => streams.contains_key(&writer),
                        None => streams.values().any(|stream| stream.adopted),
                    };
                    file.borrow_mut().flush(&mut self.ctx, lives);
                }
                None => flush(path, self.ctx.compressor.shelf()),
            }
        }
        self.hurry();
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
