//! A log file that cannot be written, and can again; see [`crate::logs::outage`].

use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;

use memchr::memrchr;
use nix::errno::Errno;

use crate::logs::file::{Context, LogFile, Tail, Writer};
use crate::logs::outage::{Outage, RETRY};
use crate::logs::sink::{Loss, Notice};
use crate::model::time::Moment;

/// How far back the beginning of a line is looked for when its end is lost, in bytes.
const LINE_START: u64 = 2 << 20;
/// Read at once for that.
const LINE_BLOCK: usize = 64 << 10;

/// Room may come back, and rotated files can make some.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error().map(Errno::from_raw),
        Some(Errno::ENOSPC | Errno::EDQUOT)
    )
}

/// The end of a file.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    id: (u64, u64),
    offset: u64,
    tail: Tail,
}

impl LogFile {
    /// As [`Self::append`]. With `patient`, what a full disk does not take is taken back altogether: false, and the file
    /// is as it was.
    pub fn append_or_wait(
        &mut self,
        ctx: &mut Context,
        writer: Writer,
        whole: bool,
        data: &[u8],
        patient: bool,
    ) -> bool {
        let Some(data) = self.recover(ctx, data).filter(|data| !data.is_empty()) else {
            return true;
        };
        let before = patient.then(|| self.place(ctx)).flatten();
        let Err((error, done)) = self.put(ctx, writer, whole, data) else {
            return true;
        };
        if patient && is_full(&error) && (self.regular || self.file.is_none()) {
            ctx.tidy.no_space(ctx.now);
            // Without a file there was nothing to write to: no room for its name.
            if before.map_or(done == 0, |place| self.take_back(place)) {
                return false;
            }
        }
        self.fail(ctx, &error, data.get(done..).unwrap_or_default());
        true
    }

    /// Where the next byte goes, in case it has to be taken back; `None` while there is no file to cut.
    pub fn place(&mut self, ctx: &mut Context) -> Option<Place> {
        if self.outage.is_some() || self.open(ctx).is_err() || self.check(ctx).is_err() {
            return None;
        }
        self.look();
        self.regular.then_some(Place {
            id: self.id,
            offset: self.offset,
            tail: self.tail,
        })
    }

    /// Cuts off what was written since; false if that cannot be.
    pub fn take_back(&mut self, place: Place) -> bool {
        let cut = self.id == place.id
            && self.outage.is_none()
            && self
                .file
                .as_ref()
                .is_some_and(|file| file.set_len(place.offset).is_ok());
        if cut {
            self.offset = place.offset;
            self.tail = place.tail;
        }
        cut
    }

    /// Whether something is being lost.
    #[must_use]
    pub const fn failing(&self) -> bool {
        self.outage.is_some()
    }

    /// A writer is gone. `terminate`: its unfinished line gets an end.
    pub fn end(&mut self, ctx: &mut Context, writer: Writer, terminate: bool) {
        if let Some(outage) = &mut self.outage {
            outage.inside_line = false;
        } else if terminate && self.tail == Tail::Open(writer) {
            self.append(ctx, writer, false, b"\n");
        }
    }

    /// When to call [`Self::retry`]; none while writing works, or while only the app can go on.
    #[must_use]
    pub fn retry_at(&self) -> Option<Moment> {
        let outage = self.outage.as_ref()?;
        (!outage.inside_line).then_some(outage.retry)
    }

    /// There may be room: the next try need not wait.
    pub fn hurry(&mut self) {
        if let Some(outage) = &mut self.outage {
            outage.retry = Moment(0);
        }
    }

    /// Tries to end an outage whose time has come.
    pub fn retry(&mut self, ctx: &mut Context) {
        if self.retry_at().is_some_and(|at| at <= ctx.now) {
            let _resumed = self.recover(ctx, b"");
        }
    }

    fn loss(&self, outage: &Outage) -> Loss {
        Loss {
            app: self.origin.app.clone(),
            slot: self.origin.slot,
            path: self.path.to_path_buf(),
            lines: outage.lines,
            bytes: outage.bytes,
            error: outage.error.clone(),
        }
    }

    /// Takes back the first part of a line whose rest is lost, unless it is very long. Returns its bytes.
    fn cut_line(&mut self) -> u64 {
        let Some(start) = self.line_start() else { return 0 };
        if self.file.as_ref().is_none_or(|file| file.set_len(start).is_err()) {
            return 0;
        }
        let cut = self.offset - start;
        self.offset = start;
        self.tail = Tail::Start;
        cut
    }

    /// The same for this writer's line, if there is one. `whole` as in [`Self::begins_line`].
    pub fn take_line_back(&mut self, writer: Writer, whole: bool) -> u64 {
        self.look();
        match self.tail {
            Tail::Open(last) if last == writer => self.cut_line(),
            Tail::Found if !whole => self.cut_line(),
            Tail::Open(_) | Tail::Unseen(_) | Tail::Found | Tail::Start => 0,
        }
    }

    /// Where the unfinished line at the end of the file begins; none if there is none, or if it is very long.
    pub(super) fn line_start(&self) -> Option<u64> {
        let (Tail::Open(_) | Tail::Found, Some(file), true) = (self.tail, &self.file, self.regular) else {
            return None;
        };
        let mut block = vec![0; LINE_BLOCK];
        let mut end = self.offset;
        while end > 0 && self.offset - end < LINE_START {
            let from = end.saturating_sub(LINE_BLOCK as u64);
            let part = block.get_mut(..usize::try_from(end - from).ok()?)?;
            file.read_exact_at(part, from).ok()?;
            if let Some(at) = memrchr(b'\n', part) {
                return Some(from + at as u64 + 1);
            }
            end = from;
        }
        (end == 0).then_some(0)
    }

    /// The unfinished line at the end of the file, unless it is very long.
    pub(super) fn unfinished_line(&self) -> Vec<u8> {
        let read = || {
            let start = self.line_start()?;
            let mut line = vec![0; usize::try_from(self.offset - start).ok()?];
            self.file.as_ref()?.read_exact_at(&mut line, start).ok()?;
            Some(line)
        };
        read().unwrap_or_default()
    }

    /// The same, if it is this writer's.
    pub fn unfinished_line_of(&mut self, writer: Writer) -> Vec<u8> {
        self.look();
        match self.tail {
            Tail::Open(last) if last == writer => self.unfinished_line(),
            Tail::Open(_) | Tail::Unseen(_) | Tail::Found | Tail::Start => Vec::new(),
        }
    }

    /// During an outage: this much more is lost.
    pub fn lose_more(&mut self, lines: u64, bytes: u64) {
        if let Some(outage) = &mut self.outage {
            outage.lines += lines;
            outage.bytes += bytes;
        }
    }

    /// Lines of an app that could not wait.
    #[must_use]
    pub fn dropped(&self, lines: u64, bytes: u64, why: &str) -> Loss {
        Loss {
            app: self.origin.app.clone(),
            slot: self.origin.slot,
            path: self.path.to_path_buf(),
            lines,
            bytes,
            error: why.to_owned(),
        }
    }

    pub(super) fn fail(&mut self, ctx: &mut Context, error: &io::Error, lost: &[u8]) {
        if is_full(error) {
            ctx.tidy.no_space(ctx.now);
        }
        let text = error
            .raw_os_error()
            .map_or_else(|| error.to_string(), |number| Errno::from_raw(number).desc().to_owned());
        let mut outage = Outage::new(text, ctx.now);
        outage.bytes = self.cut_line();
        outage.lose(lost);
        ctx.counters.outages.fetch_add(1, Ordering::Relaxed);
        (ctx.notify)(Notice::Lost(self.loss(&outage)));
        self.outage = Some(Box::new(outage));
    }

    /// During an outage: loses data, or ends the outage and returns what can be written again.
    pub(super) fn recover<'a>(&mut self, ctx: &mut Context, data: &'a [u8]) -> Option<&'a [u8]> {
        let Some(mut outage) = self.outage.take() else {
            return Some(data);
        };
        let data = outage.finish_line(data);
        if outage.inside_line || outage.retry > ctx.now || !self.resume(ctx, &outage) {
            outage.lose(data);
            if outage.retry <= ctx.now {
                outage.retry = ctx.now.after(RETRY);
            }
            self.outage = Some(outage);
            return None;
        }
        let counters = &ctx.counters;
        counters.outages.fetch_sub(1, Ordering::Relaxed);
        counters.lost_lines.fetch_add(outage.lines, Ordering::Relaxed);
        counters.lost_bytes.fetch_add(outage.bytes, Ordering::Relaxed);
        (ctx.notify)(Notice::Resumed(self.loss(&outage)));
        Some(data)
    }

    /// Writes the marker, all of it or nothing.
    fn resume(&mut self, ctx: &mut Context, outage: &Outage) -> bool {
        self.checked = Moment(0);
        if self.open(ctx).is_err() || self.check(ctx).is_err() {
            return false;
        }
        self.look();
        let mut marker = Vec::new();
        if self.tail != Tail::Start {
            marker.push(b'\n');
        }
        self.framing
            .marker(&outage.marker(), ctx.wall, &mut ctx.stampers, &mut marker);
        let before = self.offset;
        if self.write(&marker).is_ok() {
            self.note(ctx, before);
            self.tail = Tail::Start;
            return true;
        }
        if let Some(file) = self.file.as_ref().filter(|_| self.regular && self.offset != before) {
            let _cut = file.set_len(before);
            self.offset = before;
        }
        false
    }
}
