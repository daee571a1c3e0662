//! One attached pipe: how its bytes get into its files.

use std::cell::RefCell;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use memchr::{memchr, memrchr};
use nix::fcntl::{FcntlArg, fcntl};

use crate::logs::console::Outlet;
use crate::logs::file::{Context, LogFile, Spliced, Writer};
use crate::logs::frame::Framing;
use crate::logs::sink::{Sink, StreamKey};
use crate::model::logspec::{self, LogFormat, Overflow};

/// A partial line is held up to this size, then written in pieces.
const MAX_HELD: usize = 1 << 20;
/// Size of a busy stream's pipe; fewer, larger moves. An idle stream gets the usual size back.
const BUSY_PIPE: i32 = 1 << 20;
const IDLE_PIPE: i32 = 64 << 10;
/// A move of this many bytes found the pipe full.
const FULL: usize = 60 << 10;
/// So many full, or small, moves in a row change the pipe's size.
const STREAK: i8 = 16;

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
        let mut json = || Framing::new(&LogFormat::Json, &sink.origin, key.stream, &mut ctx.stampers);
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
    pub(super) shared: bool,
    pub(super) adopted: bool,
    /// The beginning of an unfinished line; only when lines are framed.
    pub(super) held: Vec<u8>,
    /// Full moves in a row; negative: small ones.
    pub(super) streak: i8,
    pub(super) large_pipe: bool,
}

impl Stream {
    /// Whether lines are written only when they are complete.
    fn frames(&self) -> bool {
        // One count is the worker's table of files, one is this stream.
        let others = |file: &SharedFile| Rc::strong_count(file) > 2;
        self.shared
            || self.log_file.is_some()
            || self.console.is_some()
            || self.framing.needs_whole_lines()
            || !self.held.is_empty()
            || self.file.as_ref().is_some_and(others)
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
            (Some(file), Framing::Raw) if !self.frames() => {
                file.borrow_mut()
                    .splice_from(ctx, self.id, !self.adopted, self.pipe.as_fd(), max)
            }
            _ => Spliced::Cannot,
        }
    }

    /// Writes what was read.
    pub(super) fn write(&mut self, ctx: &mut Context, scratch: &mut Vec<u8>, data: &[u8]) {
        if self.file.is_none() && self.log_file.is_none() && self.console.is_none() {
            return;
        }
        if !self.frames() {
            return self.emit(ctx, scratch, data, !self.adopted);
        }
        let mut rest = data;
        if !self.held.is_empty() {
            let (first, after) = rest.split_at(memchr(b'\n', rest).map_or(rest.len(), |at| at + 1));
            self.held.extend_from_slice(first);
            rest = after;
            if self.held.last() == Some(&b'\n') || self.held.len() >= MAX_HELD {
                let held = std::mem::take(&mut self.held);
                self.emit(ctx, scratch, &held, true);
            }
        }
        let (lines, partial) = rest.split_at(memrchr(b'\n', rest).map_or(0, |at| at + 1));
        self.emit(ctx, scratch, lines, true);
        if !partial.is_empty() {
            self.held.extend_from_slice(partial);
        }
    }

    /// Ends an unfinished line, except in a raw file of its own.
    pub(super) fn finish_line(&mut self, ctx: &mut Context, scratch: &mut Vec<u8>) {
        let raw = matches!(*self.framing, Framing::Raw) && !self.frames();
        if !self.held.is_empty() {
            let mut held = std::mem::take(&mut self.held);
            held.push(b'\n');
            self.emit(ctx, scratch, &held, true);
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

    fn emit(&self, ctx: &mut Context, scratch: &mut Vec<u8>, data: &[u8], whole: bool) {
        if data.is_empty() {
            return;
        }
        for file in [&self.file, &self.log_file].into_iter().flatten() {
            let mut file = file.borrow_mut();
            if matches!(*self.framing, Framing::Raw) {
                file.append(ctx, self.id, whole, data);
                continue;
            }
            let fresh = file.begins_line(ctx, self.id, whole);
            scratch.clear();
            let now = ctx.wall;
            self.framing.encode(data, fresh, now, &mut ctx.stampers, scratch);
            file.append(ctx, self.id, whole, scratch);
        }
        self.emit_to_console(ctx, scratch, data);
    }

    fn emit_to_console(&self, ctx: &mut Context, scratch: &mut Vec<u8>, data: &[u8]) {
        let Some(console) = &self.console else { return };
        let stalled = console.is_stalled(ctx);
        let framing = console.framing.as_ref().unwrap_or(&self.framing);
        scratch.clear();
        framing.encode(data, true, ctx.wall, &mut ctx.stampers, scratch);
        let Some(outlet) = ctx.outlets.get_mut(console.outlet).and_then(Option::as_mut) else {
            return;
        };
        if stalled && console.drops {
            outlet.lose(scratch.len());
        } else {
            outlet.push(&console.prefix, scratch);
        }
    }
}
