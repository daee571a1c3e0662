//! The pump's part: how both sides of a gap are joined in the log.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::logs::file::{Context, Writer};
use crate::logs::frame::Framing;
use crate::logs::journal::Filled;
use crate::logs::pump::drops::Drops;
use crate::logs::pump::drops::gap::{Gap, SLOW};
use crate::logs::pump::drops::gate::{Gate, Turn};
use crate::logs::pump::stream::{Scratch, Stream};
use crate::logs::pump::worker::{BUDGET, Worker};
use crate::logs::sink::{Notice, Sink};
use crate::model::logspec::Overflow;

impl Worker {
    /// The gate of a stream that rather loses lines than waits.
    pub(in crate::logs::pump) fn gate(&mut self, pipe: &OwnedFd, sink: &Sink) -> io::Result<Option<Arc<Gate>>> {
        if sink.overflow != Overflow::Drop || sink.disabled {
            return Ok(None);
        }
        let drops = match self.drops.take() {
            Some(drops) => drops,
            None => Drops::start(Arc::clone(&self.wake))?,
        };
        self.drops.insert(drops).add(pipe).map(Some)
    }

    /// What was lost is said now: the next output may be long in coming.
    pub(in crate::logs::pump) fn bridge(&mut self) {
        if !self.drops.as_ref().is_some_and(Drops::has_news) {
            return;
        }
        let lossy = self.streams.iter().filter(|(_, stream)| stream.gate.is_some());
        let ids: Vec<Writer> = lossy.map(|(id, _)| *id).collect();
        for id in ids {
            self.serve(id, BUDGET, false);
        }
    }

    /// Nobody stands in for the pump any more at this pipe; what was lost is said.
    pub(in crate::logs::pump) fn leave_gate(&mut self, stream: &mut Stream) {
        let Some(gate) = stream.gate.clone() else { return };
        if self.drops.as_ref().is_some_and(|drops| drops.remove(&gate)) {
            self.drops = None;
        }
        if let Turn::Bridge(gap) = gate.turn(self.buffer.lend(&mut self.ctx.journal, usize::MAX), true) {
            stream.bridge(&mut self.ctx, &mut self.scratch, gap);
            stream.park(&mut self.ctx);
        }
        stream.tell(&self.ctx, (0, 0), true);
        stream.gate = None;
    }

    /// The end of the pump.
    pub(in crate::logs::pump) fn leave_gates(&mut self) {
        let mut streams = std::mem::take(&mut self.streams);
        for stream in streams.values_mut() {
            self.leave_gate(stream);
        }
        self.streams = streams;
    }
}

impl Stream {
    /// What was read past the journal is put into it.
    pub(in crate::logs::pump) fn note_read(&self, ctx: &mut Context, filled: &Filled, buffer: &[u8]) {
        let Filled::Moved(range) = filled else { return };
        if let Some(journal) = ctx.journal.as_mut().filter(|_| self.writes()) {
            let data = buffer.get(range.clone()).unwrap_or_default();
            journal.take(ctx.now, self.key, (&self.held, self.parked), data);
        }
    }

    /// Ends the line before the gap, says what was lost, begins the line after it.
    pub(in crate::logs::pump) fn bridge(&mut self, ctx: &mut Context, scratch: &mut Scratch, mut gap: Gap) {
        if gap.torn {
            gap.bytes += self.take_line_back(ctx);
        } else {
            self.write_read(ctx, scratch, &gap.head);
        }
        if let Some(marker) = gap.marker() {
            let files = || [&self.file, &self.log_file].into_iter().flatten();
            if files().all(|file| file.borrow().failing()) {
                // One marker says both.
                files().for_each(|file| file.borrow_mut().lose_more(gap.lines, gap.bytes));
            } else {
                files().for_each(|file| file.borrow_mut().end(ctx, self.id, true));
                self.emit(ctx, scratch, format!("{marker}\n").as_bytes(), 0, true);
                ctx.counters.dropped(gap.lines, gap.bytes);
                self.tell(ctx, (gap.lines, gap.bytes), false);
            }
        }
        self.write_read(ctx, scratch, &gap.tail);
    }

    fn write_read(&mut self, ctx: &mut Context, scratch: &mut Scratch, data: &[u8]) {
        self.note_read(ctx, &Filled::Moved(0..data.len()), data);
        self.write(ctx, scratch, data);
    }

    /// The unfinished line is lost; how many of its bytes were held, or in the file, or each of both.
    fn take_line_back(&mut self, ctx: &mut Context) -> u64 {
        let held = std::mem::take(&mut self.held).len() as u64;
        self.park(ctx);
        if !matches!(*self.framing, Framing::Raw) {
            return held;
        }
        // Whether lines are held now says nothing of how this one began: its process may have ended since.
        let whole = self.begins();
        let files = [&self.file, &self.log_file].into_iter().flatten();
        let cut = files.map(|file| file.borrow_mut().take_line_back(self.id, whole)).max();
        held + cut.unwrap_or(0)
    }

    /// Tells people what was lost, if it is time.
    fn tell(&self, ctx: &Context, lost: (u64, u64), last: bool) {
        let file = self.file.as_ref().or(self.log_file.as_ref());
        let said = self.gate.as_ref().and_then(|gate| gate.tell(ctx.now, lost, last));
        if let (Some(file), Some((lines, bytes))) = (file, said) {
            let loss = file.borrow().dropped(lines, bytes, SLOW);
            (ctx.notify)(Notice::Dropped(loss));
        }
    }
}
