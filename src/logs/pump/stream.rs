//! One attached pipe: how its bytes get into its files.

use std::cell::RefCell;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;

use memchr::{memchr, memchr_iter, memrchr};
use nix::fcntl::{FcntlArg, fcntl};

use crate::logs::console::Outlet;
use crate::logs::file::{Context, LogFile, Place, Spliced, Writer};
use crate::logs::frame::Framing;
use crate::logs::pump::drops::gate::Gate;
use crate::logs::pump::patience::MOST;
use crate::logs::sink::{Sink, StreamKey};
use crate::logs::target::{self, Ends};
use crate::model::logspec::{self, LogFormat, Overflow};
use crate::model::time::Moment;

/// A partial line is held up to this size, then written in pieces.
const MAX_HELD: usize = 1 << 20;
/// Size of a busy stream's pipe; fewer, larger moves. An idle stream gets the usual size back.
const BUSY_PIPE: i32 = 1 << 20;
const IDLE_PIPE: i32 = 64 << 10;
/// A move of this many bytes found the pipe full.
const FULL: usize = 60 << 10;
/// So many full, or small, moves in a row change the pipe's size.
const STREAK: i8 = 16;

/// What a block becomes, for each of a stream's files.
pub(super) type Scratch = [Vec<u8>; 2];

/// A file of one or more streams.
pub(super) type SharedFile = Rc<RefCell<LogFile>>;

/// The part of a standard stream.
#[derive(Debug)]
pub(super) struct ConsoleEnd {
    /// Of [`Context::outlets`].
    pub(super) outlet: usize,
    prefix: Vec<u8>,
    /// Other than the file's.
    framing: Option<Framing>,
    /// Lines are lost rather than the app slowed down.
    drops: bool,
    /// The pipe is not read, because the outlet is stalled.
    pub(super) paused: bool,
}

impl ConsoleEnd {
    pub(super) fn new(key: StreamKey, sink: &Sink, ctx: &mut Context) -> Option<Self> {
        let console = sink.console.as_ref()?;
        let mut json = || {
            let zone = sink.zone.as_deref();
            Framing::new(&LogFormat::Json, zone, &sink.origin, key.stream, &mut ctx.stampers)
        };
        Some(Self {
            outlet: outlet_of(key.stream),
            prefix: console.prefix.clone(),
            framing: console.json.then(&mut json),
            drops: sink.overflow == Overflow::Drop,
            paused: false,
        })
    }

    /// Its reader has to catch up first.
    fn is_stalled(&self, ctx: &Context) -> bool {
        ctx.outlets
            .get(self.outlet)
            .and_then(Option::as_ref)
            .is_some_and(Outlet::is_stalled)
    }
}

/// The outlet of a stream.
pub(super) const fn outlet_of(stream: logspec::Stream) -> usize {
    match stream {
        logspec::Stream::Out => 0,
        logspec::Stream::Err => 1,
    }
}

/// One attached pipe.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) key: StreamKey,
    pub(super) pipe: OwnedFd,
    pub(super) id: Writer,
    pub(super) framing: Rc<Framing>,
    /// None: thrown away.
    pub(super) file: Option<SharedFile>,
    pub(super) log_file: Option<SharedFile>,
    pub(super) console: Option<ConsoleEnd>,
    /// Targets that are no files.
    pub(super) ends: Option<Box<Ends>>,
    pub(super) shared: bool,
    pub(super) adopted: bool,
    /// The beginning of an unfinished line; only when lines are framed.
    pub(super) held: Vec<u8>,
    /// How much of it is in the journal's held file.
    pub(super) parked: u64,
    /// A full disk has refused what is held, at this time: nothing more is read.
    pub(super) refused: Option<Moment>,
    /// Lines wait for room on the disk.
    pub(super) patient: bool,
    /// The process has ended: when nothing waits any more, its last line gets its end.
    pub(super) finishing: bool,
    /// Full moves in a row; negative: small ones.
    pub(super) streak: i8,
    pub(super) large_pipe: bool,
    /// Lines are lost rather than the app slowed down.
    pub(super) gate: Option<Arc<Gate>>,
    /// The process is gone. What its children still write is written by whole lines: the next one's output may
    /// come between any two of them.
    pub(super) exited: bool,
}

impl Stream {
    /// Whether lines are written only when they are complete.
    pub(super) fn frames(&self) -> bool {
        self.shares()
            || self.ends.is_some()
            || self.framing.needs_whole_lines()
            || !self.held.is_empty()
            || self.exited
            // Of a raw file a half line can be taken back.
            || (self.gate.is_some() && !matches!(*self.framing, Framing::Raw))
    }

    /// Whether others get the same lines, or write between them.
    fn shares(&self) -> bool {
        // One count is the worker's table of files, one is this stream.
        let others = |file: &SharedFile| Rc::strong_count(file) > 2;
        self.shared || self.log_file.is_some() || self.console.is_some() || self.file.as_ref().is_some_and(others)
    }

    /// Whether an unfinished line found in the file is somebody else's.
    pub(super) fn begins(&self) -> bool {
        !self.adopted || self.shares() || self.framing.needs_whole_lines()
    }

    /// The app is to wait until a reader has caught up.
    pub(super) fn must_wait(&self, ctx: &Context) -> bool {
        self.console
            .as_ref()
            .is_some_and(|console| !console.drops && console.is_stalled(ctx))
    }

    /// Moves bytes without looking at them if nobody has to.
    pub(super) fn splice(&self, ctx: &mut Context, max: usize) -> Spliced {
        match (&self.file, &*self.framing) {
            (Some(file), Framing::Raw) if !self.frames() && self.gate.is_none() => {
                file.borrow_mut()
                    .splice_from(ctx, self.id, !self.adopted, self.pipe.as_fd(), max)
            }
            _ => Spliced::Cannot,
        }
    }

    /// Writes what was read.
    pub(super) fn write(&mut self, ctx: &mut Context, scratch: &mut Scratch, data: &[u8]) {
        if !self.writes() && self.console.is_none() {
            return;
        }
        if self.refused.is_some() && self.held.len() < MOST {
            return self.held.extend_from_slice(data);
        }
        if !self.frames() {
            let taken = self.emit(ctx, scratch, data, data.len(), !self.adopted);
            return self.keep_waiting(ctx, data, taken);
        }
        let begins = self.begins();
        let mut rest = data;
        if !self.held.is_empty() {
            let (first, after) = rest.split_at(memchr(b'\n', rest).map_or(rest.len(), |at| at + 1));
            self.held.extend_from_slice(first);
            rest = after;
            if self.held.last() == Some(&b'\n') || self.held.len() > MAX_HELD {
                let held = std::mem::take(&mut self.held);
                let taken = self.emit(ctx, scratch, &held, held.len(), begins);
                self.keep_waiting(ctx, &held, taken);
                if self.refused.is_some() {
                    return self.held.extend_from_slice(rest);
                }
            }
        }
        let (lines, partial) = rest.split_at(memrchr(b'\n', rest).map_or(0, |at| at + 1));
        let taken = self.emit(ctx, scratch, lines, lines.len(), begins);
        self.keep_waiting(ctx, lines, taken);
        if !partial.is_empty() {
            self.held.extend_from_slice(partial);
        }
    }

    /// Whether what is read goes anywhere.
    pub(super) const fn writes(&self) -> bool {
        self.file.is_some() || self.log_file.is_some() || self.ends.is_some()
    }

    /// Writes what a former process had read and not written.
    pub(super) fn write_claimed(&mut self, ctx: &mut Context, scratch: &mut Scratch, data: &[u8]) {
        if let Some(journal) = &mut ctx.journal {
            journal.begin_claimed(ctx.now, self.key, data);
        }
        self.parked = data.len() as u64;
        self.write(ctx, scratch, data);
        self.park(ctx);
    }

    /// Keeps what is held where a kill does not reach it.
    pub(super) fn park(&mut self, ctx: &mut Context) {
        if let Some(journal) = &mut ctx.journal {
            self.parked = journal.park(self.key, &self.held, self.parked);
        }
    }

    /// Another stream is about to write to this one's file: the half line that is in it is taken back and held, so
    /// that it stays in one piece. The last words of a process that is gone stay where they are.
    pub(super) fn hold_back(&mut self, ctx: &mut Context, [scratch, _]: &mut Scratch) {
        let Some(file) = self.file.as_ref().filter(|_| !self.exited && !self.frames()) else {
            return;
        };
        let mut stamp = 0;
        if !matches!(*self.framing, Framing::Raw) {
            scratch.clear();
            self.framing.encode(b"\n", true, ctx.wall, &mut ctx.stampers, scratch);
            stamp = scratch.len().saturating_sub(1);
        }
        let line = file.borrow_mut().unfinished_line_of(self.id);
        let Some(held) = line.get(stamp..).filter(|held| !held.is_empty()) else {
            return;
        };
        if stamp > 0 && line.get(stamp - 1) != Some(&b' ') {
            return;
        }
        if let Some(journal) = &mut ctx.journal {
            journal.begin_claimed(ctx.now, self.key, held);
        }
        file.borrow_mut().take_line_back(self.id, true);
        self.held = held.to_vec();
        self.park(ctx);
    }

    /// Ends an unfinished line, except in a raw file of its own.
    pub(super) fn finish_line(&mut self, ctx: &mut Context, scratch: &mut Scratch) {
        let raw = matches!(*self.framing, Framing::Raw) && !self.shares();
        if !self.held.is_empty() {
            self.begin_held(ctx);
            let begins = self.begins();
            let mut held = std::mem::take(&mut self.held);
            let input = held.len();
            if !raw && held.last() != Some(&b'\n') {
                held.push(b'\n');
            }
            let taken = self.emit(ctx, scratch, &held, input, begins);
            held.truncate(input);
            self.keep_waiting(ctx, &held, taken);
            self.park(ctx);
        }
        if self.refused.is_some() {
            return;
        }
        for file in [&self.file, &self.log_file].into_iter().flatten() {
            file.borrow_mut().end(ctx, self.id, !raw);
        }
    }

    /// Adapts the pipe's size to what the last move found.
    pub(super) fn moved(&mut self, count: usize) {
        self.streak = if count >= FULL {
            self.streak.max(0).saturating_add(1)
        } else {
            self.streak.min(0).saturating_sub(1)
        };
        // Refused when the user's pipes are too large in sum, or when it holds more: stay as it is.
        if !self.large_pipe && self.streak >= STREAK {
            self.large_pipe = true;
            let _kept = fcntl(&self.pipe, FcntlArg::F_SETPIPE_SZ(BUSY_PIPE));
        } else if self.large_pipe && self.streak <= -STREAK {
            self.large_pipe = false;
            let _kept = fcntl(&self.pipe, FcntlArg::F_SETPIPE_SZ(IDLE_PIPE));
        }
    }

    /// Writes lines, and what stands for the end of one. The first `input` bytes came from the pipe. How many were
    /// taken: all, unless they are to wait.
    pub(super) fn emit(
        &self,
        ctx: &mut Context,
        scratch: &mut Scratch,
        data: &[u8],
        input: usize,
        whole: bool,
    ) -> usize {
        let mut rest = if self.writes() { data } else { &[] };
        let mut input = input;
        while !rest.is_empty() {
            // What a kill may have sent twice.
            let part = if self.ends.is_some() { target::block(rest) } else { rest };
            let Some(count) = self.emit_block(ctx, scratch, part, input, whole) else {
                break;
            };
            rest = rest.get(count..).unwrap_or_default();
            input = input.saturating_sub(count);
        }
        let taken = data.len() - rest.len();
        if taken > 0 {
            self.emit_to_console(ctx, scratch, data.get(..taken).unwrap_or_default());
        }
        taken
    }

    fn emit_to_console(&self, ctx: &mut Context, [scratch, _]: &mut Scratch, data: &[u8]) {
        let Some(console) = &self.console else { return };
        let stalled = console.is_stalled(ctx);
        let framing = console.framing.as_ref().unwrap_or(&self.framing);
        scratch.clear();
        let mut rest = data;
        while !rest.is_empty() {
            let count = framing.encode(rest, true, ctx.wall, &mut ctx.stampers, scratch);
            rest = rest.get(count..).unwrap_or_default();
        }
        let Some(outlet) = ctx.outlets.get_mut(console.outlet).and_then(Option::as_mut) else {
            return;
        };
        if stalled && console.drops {
            outlet.lose(scratch.len());
        } else {
            outlet.push(&console.prefix, scratch);
        }
    }

    /// Writes as much as is encoded at once and fits into each file before one must be rotated; how much that was. `None`: a disk is full,
    /// and it is to wait.
    fn emit_block(
        &self,
        ctx: &mut Context,
        scratch: &mut Scratch,
        data: &[u8],
        input: usize,
        whole: bool,
    ) -> Option<usize> {
        let raw = matches!(*self.framing, Framing::Raw);
        let files = [&self.file, &self.log_file];
        let mut count = data.len();
        // What each file's encoded bytes stand for.
        let mut taken = [count; 2];
        for ((file, encoded), taken) in files.into_iter().zip(scratch.iter_mut()).zip(&mut taken) {
            let Some(file) = file else { continue };
            let mut file = file.borrow_mut();
            encoded.clear();
            if !raw {
                let fresh = file.begins_line(ctx, self.id, whole);
                let now = ctx.wall;
                let data = data.get(..count).unwrap_or(data);
                *taken = self.framing.encode(data, fresh, now, &mut ctx.stampers, encoded);
                count = *taken;
            }
            let encoded = if raw { data } else { encoded };
            let room = file.make_room(ctx, self.id, whole, encoded);
            if let Some(head) = encoded.get(..room).filter(|head| head.len() < encoded.len()) {
                count = count.min(lines(data, memchr_iter(b'\n', head).count()));
            }
        }
        if let (Some(ends), Some(lines)) = (&self.ends, data.get(..count)) {
            // Before the files: what a kill interrupts is done again, so that a line is sent twice rather than never.
            ends.send(ctx, lines);
        }
        // Each line of the input is one of the file, in every format.
        let cut = files
            .into_iter()
            .zip(taken)
            .any(|(file, taken)| file.is_some() && taken != count);
        let ends = match data.get(..count) {
            Some(head) if cut => memchr_iter(b'\n', head).count(),
            Some(_) | None => 0,
        };
        let mut intents = Vec::new();
        let mut known = self.file.is_some() || self.log_file.is_some();
        let parts = files.into_iter().zip(scratch.iter()).zip(taken);
        let parts = parts.filter_map(|((file, encoded), taken)| {
            let encoded = if raw { data } else { encoded.as_slice() };
            let size = if count == taken {
                encoded.len()
            } else {
                lines(encoded, ends)
            };
            Some((file.as_ref()?, encoded.get(..size)?))
        });
        let covered = count.min(input);
        if let Some(journal) = &mut ctx.journal {
            for (file, part) in parts.clone() {
                let intent = file.borrow().intent(part.len());
                known &= intent.is_some();
                intents.extend(intent);
            }
            if !intents.is_empty() {
                journal.cover(ctx.now, covered, intents);
            }
        }
        let mut written: Option<(&SharedFile, Option<Place>)> = None;
        let mut patient = self.is_patient(ctx);
        for (file, part) in parts {
            let place = patient.then(|| file.borrow_mut().place(ctx)).flatten();
            let taken = file.borrow_mut().append_or_wait(ctx, self.id, whole, part, patient);
            if !taken {
                // Of both files or of none.
                if let Some((first, Some(place))) = written {
                    first.borrow_mut().take_back(place);
                }
                if let Some(journal) = &mut ctx.journal {
                    journal.advance(ctx.now, 0, false);
                }
                return None;
            }
            // What one file has lost, or has for good, cannot wait for the other.
            patient &= place.is_some() && !file.borrow().failing();
            known &= !file.borrow().failing();
            written = Some((file, place));
        }
        if let Some(journal) = &mut ctx.journal {
            journal.advance(ctx.now, covered, known);
        }
        Some(count)
    }
}

/// The bytes of the first `count` lines.
fn lines(data: &[u8], count: usize) -> usize {
    let Some(last) = count.checked_sub(1) else { return 0 };
    memchr_iter(b'\n', data).nth(last).map_or(data.len(), |at| at + 1)
}
