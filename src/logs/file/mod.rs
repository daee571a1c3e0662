//! One log file and its only writer.
//!
//! The file is opened with its first byte. The writer owns the offset (no `O_APPEND`), so pages can be
//! spliced; once a second, while there is something to write, it looks whether somebody else removed,
//! truncated or extended the file.

mod context;
mod days;
mod flush;
mod recover;
mod reopen;
mod splice;

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use memchr::{memchr, memrchr};
use nix::fcntl::OFlag;

use crate::logs::frame::Framing;
use crate::logs::journal::Intent;
use crate::logs::moment;
use crate::logs::outage::{Outage, RETRY};
use crate::logs::rotate::shift;
use crate::logs::sink::Origin;
use crate::model::logspec::Rotation;
use crate::model::time::{Moment, WallTime};

pub use context::{Context, Counters};
use days::Days;
pub use flush::flush;
pub use recover::Place;
pub use splice::Spliced;

/// Who wrote last: a number never used twice for a stream.
pub type Writer = u64;

/// Where the file ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tail {
    /// After a newline, or at the beginning.
    Start,
    /// Inside a line of this writer.
    Open(Writer),
    /// Inside a line that was there when the file was opened.
    Found,
    /// This writer's bytes were spliced; nobody has looked.
    Unseen(Writer),
}

/// A file, open or not yet.
#[derive(Debug)]
pub struct LogFile {
    path: Rc<Path>,
    rotation: Rotation,
    private_folder: bool,
    /// How a marker is written, and who is named in a notice: the last stream attached.
    framing: Rc<Framing>,
    origin: Arc<Origin>,
    file: Option<File>,
    /// Device and inode of the open file.
    id: (u64, u64),
    opened_before: bool,
    regular: bool,
    spliceable: bool,
    offset: u64,
    tail: Tail,
    due: Option<WallTime>,
    days: Days,
    checked: Moment,
    rotate_after: Moment,
    outage: Option<Box<Outage>>,
}

impl LogFile {
    /// A file that is not open yet.
    #[must_use]
    pub const fn new(
        path: Rc<Path>,
        rotation: Rotation,
        private_folder: bool,
        framing: Rc<Framing>,
        origin: Arc<Origin>,
    ) -> Self {
        Self {
            path,
            rotation,
            private_folder,
            framing,
            origin,
            file: None,
            id: (0, 0),
            opened_before: false,
            regular: false,
            spliceable: true,
            offset: 0,
            tail: Tail::Start,
            due: None,
            days: Days::new(),
            checked: Moment(0),
            rotate_after: Moment(0),
            outage: None,
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A stream joins with these settings, which hold for the file from now on.
    pub fn configure(&mut self, rotation: &Rotation, framing: &Rc<Framing>, origin: &Arc<Origin>) {
        if self.rotation.every != rotation.every {
            self.due = None;
        }
        self.rotation = rotation.clone();
        self.framing = Rc::clone(framing);
        self.origin = Arc::clone(origin);
    }

    /// Rotation by time counts the days of this zone, see [`crate::os::zone::of`].
    pub fn count_in(&mut self, setting: Option<&str>) {
        if self.rotation.every.is_some() && self.days.set(setting) {
            self.due = None;
        }
    }

    /// Whether the next byte of this writer begins a line. `whole`: an unfinished line found in the
    /// file is not this writer's.
    pub fn begins_line(&mut self, ctx: &mut Context, writer: Writer, whole: bool) -> bool {
        if let Some(outage) = &self.outage {
            return !outage.inside_line;
        }
        if self.file.is_none() {
            // An error shows again in `append`.
            let _opened = self.open(ctx);
        }
        self.look();
        match self.tail {
            Tail::Start => true,
            Tail::Open(last) | Tail::Unseen(last) => last != writer,
            Tail::Found => whole,
        }
    }

    /// How many of these bytes [`Self::append`] will write without rotating; at least a line, if need be after a
    /// rotation now. `whole` as in [`Self::begins_line`].
    pub fn make_room(&mut self, ctx: &mut Context, writer: Writer, whole: bool, data: &[u8]) -> usize {
        // An error shows again in `append`.
        if self.outage.is_some() || self.begin(ctx, writer, whole).is_err() {
            return data.len();
        }
        match self.room(ctx, data) {
            0 if self.rotate(ctx).is_err() => data.len(),
            0 => self.room(ctx, data),
            room => room,
        }
    }

    /// The writing of `len` bytes, as it can be taken back. Not what is no file, and not while output is lost.
    pub fn intent(&self, len: usize) -> Option<Intent> {
        let ready = self.regular && self.file.is_some() && self.outage.is_none();
        ready.then(|| Intent {
            path: self.path.to_path_buf(),
            id: self.id,
            from: self.offset,
            len: len as u64,
        })
    }

    /// Writes, rotating between lines. What cannot be written is lost and counted. `whole` as in
    /// [`Self::begins_line`].
    pub fn append(&mut self, ctx: &mut Context, writer: Writer, whole: bool, data: &[u8]) {
        self.append_or_wait(ctx, writer, whole, data, false);
    }

    fn open(&mut self, ctx: &mut Context) -> io::Result<()> {
        if self.file.is_some() {
            return Ok(());
        }
        let file = match open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make_parent(&self.path, self.private_folder)?;
                open(&self.path)?
            }
            other => other?,
        };
        let meta = file.metadata()?;
        self.regular = meta.is_file();
        self.id = (meta.dev(), meta.ino());
        self.offset = if self.regular { meta.len() } else { 0 };
        self.tail = Tail::Start;
        self.checked = ctx.now;
        self.file = Some(file);
        if self.regular && self.offset > 0 && self.last_byte() != Some(b'\n') {
            self.tail = Tail::Found;
        }
        self.due = None;
        if self.rotation.every.is_some() {
            let written = WallTime(meta.mtime().saturating_mul(1000));
            let since = if self.offset > 0 {
                written.min(ctx.wall)
            } else {
                ctx.wall
            };
            self.due = self.days.next(self.rotation.every, since);
        }
        if !self.opened_before {
            self.opened_before = true;
            if self.rotation.compress && self.regular {
                ctx.compressor.resume(&self.path);
            }
        }
        Ok(())
    }

    /// Notices, at most once a second, what others did to the file.
    fn check(&mut self, ctx: &mut Context) -> io::Result<()> {
        if !self.regular || ctx.now < self.checked.after(RETRY) {
            return Ok(());
        }
        let Some(file) = &self.file else { return Ok(()) };
        let meta = file.metadata()?;
        self.checked = ctx.now;
        if meta.nlink() == 0 {
            self.file = None;
            return self.open(ctx);
        }
        if meta.len() != self.offset {
            self.offset = meta.len();
            self.tail = match self.last_byte() {
                None | Some(b'\n') => Tail::Start,
                Some(_) => Tail::Found,
            };
        }
        if let Some(next) = self.days.next(self.rotation.every, ctx.wall) {
            // A clock that was set back must not put it off for as long.
            self.due = Some(self.due.map_or(next, |due| due.min(next)));
        }
        Ok(())
    }

    /// Remembers when all from this byte on was written.
    fn note(&self, ctx: &mut Context, from: u64) {
        if let Some(file) = self.file.as_ref().filter(|_| self.regular) {
            let len = self.offset.saturating_sub(from);
            ctx.times
                .wrote((ctx.now, ctx.wall), file, self.id, &self.path, from, len);
        }
    }

    fn last_byte(&self) -> Option<u8> {
        let mut byte = [0];
        let at = self.offset.checked_sub(1)?;
        let count = self.file.as_ref()?.read_at(&mut byte, at).ok()?;
        (count == 1).then_some(byte[0])
    }

    /// Finds out how a splice ended.
    fn look(&mut self) {
        if let Tail::Unseen(writer) = self.tail {
            self.tail = match self.last_byte() {
                Some(b'\n') | None => Tail::Start,
                Some(_) => Tail::Open(writer),
            };
        }
    }

    fn overdue(&self, ctx: &Context) -> bool {
        self.due.is_some_and(|due| due <= ctx.wall) && self.rotate_after <= ctx.now
    }

    /// How many of these bytes go into the file before it must be rotated; 0: rotate first.
    fn room(&self, ctx: &Context, data: &[u8]) -> usize {
        if !self.regular || self.rotate_after > ctx.now {
            return data.len();
        }
        let line = || memchr(b'\n', data).map_or(data.len(), |at| at + 1);
        let between = self.tail == Tail::Start && self.offset > 0;
        if self.overdue(ctx) && self.offset > 0 {
            return if between { 0 } else { line() };
        }
        let left = match self.rotation.size {
            Some(limit) => usize::try_from(limit.0.saturating_sub(self.offset)).unwrap_or(usize::MAX),
            None => usize::MAX,
        };
        let Some(head) = data.get(..left) else {
            return data.len();
        };
        match memrchr(b'\n', head) {
            Some(at) => at + 1,
            None if between => 0,
            None => line(),
        }
    }

    /// Opens the file and ends a line that is not this writer's.
    fn begin(&mut self, ctx: &mut Context, writer: Writer, whole: bool) -> io::Result<()> {
        self.open(ctx)?;
        self.check(ctx)?;
        self.look();
        let foreign = match self.tail {
            Tail::Start => false,
            Tail::Open(last) | Tail::Unseen(last) => last != writer,
            Tail::Found => whole,
        };
        if foreign {
            self.write(b"\n").map_err(|(error, _)| error)?;
            self.note(ctx, self.offset.saturating_sub(1));
            self.tail = Tail::Start;
        }
        Ok(())
    }

    pub(super) fn put(
        &mut self,
        ctx: &mut Context,
        writer: Writer,
        whole: bool,
        data: &[u8],
    ) -> Result<(), (io::Error, usize)> {
        self.begin(ctx, writer, whole).map_err(|error| (error, 0))?;
        let mut done = 0;
        while let Some(rest) = data.get(done..).filter(|rest| !rest.is_empty()) {
            let count = self.room(ctx, rest);
            if count > 0 {
                let head = rest.get(..count).unwrap_or(rest);
                let from = self.offset;
                let result = self.write(head);
                let written = result.as_ref().map_or_else(|(_, kept)| *kept, |()| head.len());
                if let Some(last) = head.get(..written).and_then(<[u8]>::last) {
                    self.tail = if *last == b'\n' {
                        Tail::Start
                    } else {
                        Tail::Open(writer)
                    };
                }
                done += written;
                self.note(ctx, from);
                result.map_err(|(error, _)| (error, done))?;
            }
            if done < data.len() {
                self.rotate(ctx).map_err(|error| (error, done))?;
            }
        }
        Ok(())
    }

    /// Writes all, or up to the end of a line; then the error and how much stands in the file.
    fn write(&mut self, data: &[u8]) -> Result<(), (io::Error, usize)> {
        let Some(file) = &self.file else {
            return Err((io::ErrorKind::NotFound.into(), 0));
        };
        let mut done = 0;
        while let Some(rest) = data.get(done..).filter(|rest| !rest.is_empty()) {
            let result = if self.regular {
                moment::write(file, rest, self.offset + done as u64);
                file.write_at(rest, self.offset + done as u64)
            } else {
                io::Write::write(&mut &*file, rest)
            };
            let error = match result {
                Ok(0) => io::ErrorKind::WriteZero.into(),
                Ok(count) => {
                    done += count;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => error,
            };
            if self.regular {
                let kept = data
                    .get(..done)
                    .and_then(|part| memrchr(b'\n', part))
                    .map_or(0, |at| at + 1);
                if kept < done && file.set_len(self.offset + kept as u64).is_ok() {
                    done = kept;
                }
                self.offset += done as u64;
            }
            return Err((error, done));
        }
        if self.regular {
            self.offset += done as u64;
        }
        Ok(())
    }

    /// A failed rename keeps the file growing for a second; a new file that cannot be opened is an
    /// error.
    fn rotate(&mut self, ctx: &mut Context) -> io::Result<()> {
        let renamed = {
            let _names = ctx.compressor.shelf().lock();
            shift(&self.path, &self.rotation)
        };
        if let Err(error) = renamed
            && error.kind() != io::ErrorKind::NotFound
        {
            self.rotate_after = ctx.now.after(RETRY);
            return Ok(());
        }
        moment::pass();
        self.file = None;
        if self.regular {
            ctx.times.rotated(ctx.now, self.id);
        }
        ctx.counters.rotations.fetch_add(1, Ordering::Relaxed);
        ctx.tidy.rotated(&self.origin.app, ctx.now);
        if self.rotation.compress && self.rotation.keep > 0 {
            ctx.compressor.submit(&self.path);
        }
        self.open(ctx)
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    // Reading is needed to see whether the last line is finished; a FIFO needs it to open at all.
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o640)
        .custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits());
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => options.read(false).open(path),
        other => other,
    }
}

fn make_parent(path: &Path, private: bool) -> io::Result<()> {
    let Some(parent) = path.parent() else { return Ok(()) };
    DirBuilder::new()
        .recursive(true)
        .mode(if private { 0o700 } else { 0o777 })
        .create(parent)
}
