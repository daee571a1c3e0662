//! Follows files: what is written, rotated, compressed, truncated, removed or created.
//!
//! After a rotation the old file is read to its end before the next one is begun, which is found among the rotated
//! ones whatever it is called by now, compressed or not. However slow the reader is, it gets every line once and in
//! order, as long as the files are kept; where they were not, a notice says that lines are missing.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::logs::chain::{Part, Position};
use crate::logs::clock::monotonic;
use crate::logs::rotate::all_rotated;
use crate::logs::tail::next::{self, Next};
use crate::logs::tail::split::Splitter;
use crate::logs::tail::wake::Wake;
use crate::model::duration::Millis;
use crate::model::time::Moment;

/// An unfinished line is given after this much silence.
const SILENCE: Millis = Millis(1_000);
/// Bytes read from one source before the others get their turn.
const BLOCK: usize = 256 << 10;
/// How often files are looked through again because there was a new one meanwhile.
const TRIES: usize = 8;

/// A line of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The number of the source, as given to the follower.
    pub source: usize,
    /// Without its newline.
    pub bytes: Vec<u8>,
    /// Not of the log: it tells the reader that lines are missing here.
    pub notice: bool,
    /// The place behind it; none behind a notice.
    pub after: Option<Position>,
}

/// Where following begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// With the first byte of the current file.
    Beginning,
    /// After what is there now.
    End,
    /// Where a [`Query`](crate::logs::query::Query) ended, even if the file was rotated since.
    At(Position),
}

#[derive(Debug)]
struct Source {
    path: PathBuf,
    open: Option<Opened>,
    splitter: Splitter,
    /// When the last byte of an unfinished line came.
    heard: Moment,
    /// Nothing was there yet, not even something rotated: whatever appears is to be read.
    unborn: bool,
    /// Which of the files that were born under this name is read; none where they could not be counted.
    ordinal: Option<u64>,
}

struct Opened {
    part: Part,
    /// Bytes of the text that were read.
    offset: u64,
    /// Of a compressed file.
    text: Option<Box<dyn Read + Send>>,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened")
            .field("part", &self.part)
            .finish_non_exhaustive()
    }
}

/// Gives whole lines of many files as they come.
#[derive(Debug)]
pub struct Follower {
    wake: Wake,
    sources: Vec<Source>,
    /// Sources that may have something.
    dirty: BTreeSet<usize>,
    buffer: Box<[u8]>,
}

impl AsFd for Follower {
    /// Readable when there may be something; an unfinished line makes no event. May change when a source is added.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

impl Follower {
    /// Follows these files; the number of a source is its place here.
    ///
    /// # Errors
    /// When the system gives neither inotify nor a timer, or a file exists and cannot be read.
    pub fn new(sources: Vec<(PathBuf, From)>) -> io::Result<Self> {
        let mut follower = Self {
            wake: Wake::new()?,
            sources: Vec::new(),
            dirty: BTreeSet::new(),
            buffer: vec![0; BLOCK].into_boxed_slice(),
        };
        for (path, from) in sources {
            follower.add(path, from)?;
        }
        Ok(follower)
    }

    /// The system has no more inotify instances or watches for this user: files are looked at four times a second.
    #[must_use]
    pub const fn is_polling(&self) -> bool {
        self.wake.is_polling()
    }

    /// As if the system had no more watches.
    #[cfg(test)]
    pub(super) fn poll(&mut self) -> io::Result<()> {
        self.wake.poll()
    }

    /// Follows one more file; returns its number.
    ///
    /// # Errors
    /// When it exists and cannot be read.
    pub fn add(&mut self, path: PathBuf, from: From) -> io::Result<usize> {
        let number = self.sources.len();
        self.wake.add(&path)?;
        self.sources.push(Source {
            path: path.clone(),
            open: None,
            splitter: Splitter::default(),
            heard: Moment(0),
            unborn: false,
            ordinal: None,
        });
        let found = self.counted(number, || match from {
            From::Beginning | From::End => next::first(&path, false),
            From::At(position) => next::at(&path, position),
        })?;
        match found {
            (Some((part, newer)), births) => {
                let offset = match from {
                    From::Beginning => 0,
                    From::End => part.file.metadata()?.len(),
                    From::At(position) => position.offset,
                };
                self.begin(number, part, offset)?;
                self.number(number, births, newer);
            }
            (None, _) => {
                let unborn = from == From::Beginning && all_rotated(&path).next().is_none();
                if let Some(source) = self.sources.get_mut(number) {
                    source.unborn = unborn;
                }
            }
        }
        self.dirty.insert(number);
        Ok(number)
    }

    /// Waits for lines, at most `timeout` (forever if none); empty when it passed, or when something
    /// happened that brought no line. At most about 256 KiB of each source at a time.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn next(&mut self, timeout: Option<Duration>) -> io::Result<Vec<Line>> {
        if self.dirty.is_empty() {
            self.wait(timeout)?;
        }
        self.wake.events(&mut self.dirty)?;
        let mut lines = Vec::new();
        for number in std::mem::take(&mut self.dirty) {
            if self.read(number, &mut lines)? {
                self.dirty.insert(number);
            }
        }
        let now = monotonic();
        for (number, source) in self.sources.iter_mut().enumerate() {
            if source.splitter.is_inside() && source.heard.after(SILENCE) <= now {
                let read = source.open.as_ref().map(Opened::position);
                lines.extend(source.splitter.finish().map(|bytes| line(number, bytes, read)));
            }
        }
        Ok(lines)
    }

    fn wait(&self, timeout: Option<Duration>) -> io::Result<()> {
        let now = monotonic();
        let silence = self.sources.iter().filter(|source| source.splitter.is_inside());
        let silence = silence.map(|source| source.heard.after(SILENCE).since(now).0 + 1).min();
        let timeout = timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
        let millis = match (silence, timeout) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let millis = millis.map_or(PollTimeout::NONE, |millis| {
            PollTimeout::try_from(i32::try_from(millis).unwrap_or(i32::MAX)).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut [PollFd::new(self.wake.as_fd(), PollFlags::POLLIN)], millis) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Reads on with this file.
    fn begin(&mut self, number: usize, part: Part, offset: u64) -> io::Result<()> {
        let text = if part.gzip {
            let mut text = part.text()?;
            // What is damaged ends there.
            let _skipped = io::copy(&mut text.by_ref().take(offset), &mut io::sink());
            Some(text)
        } else {
            self.wake.watch_file(number, &part.file)?;
            None
        };
        if let Some(source) = self.sources.get_mut(number) {
            source.open = Some(Opened { part, offset, text });
        }
        Ok(())
    }

    /// Looks at files, and returns with them how many had been born under the name of the source: none if new ones came
    /// faster than one can look.
    fn counted<T>(&mut self, number: usize, mut look: impl FnMut() -> io::Result<T>) -> io::Result<(T, Option<u64>)> {
        let mut found = look()?;
        for _ in 0..TRIES {
            let before = self.wake.births(number);
            self.wake.events(&mut self.dirty)?;
            let births = self.wake.births(number);
            if births == before {
                return Ok((found, births));
            }
            found = look()?;
        }
        Ok((found, None))
    }

    /// Keeps which one is read now, if `newer` ones of so many came later.
    fn number(&mut self, number: usize, births: Option<u64>, newer: u64) {
        if let Some(source) = self.sources.get_mut(number) {
            source.ordinal = births.map(|births| births.wrapping_sub(newer));
        }
    }

    /// Reads a block; true when there may be more.
    fn read(&mut self, number: usize, lines: &mut Vec<Line>) -> io::Result<bool> {
        let Some(source) = self.sources.get_mut(number) else {
            return Ok(false);
        };
        let Some(opened) = &mut source.open else {
            return self.first(number);
        };
        let count = opened.read(&mut self.buffer, number, lines)?;
        if count > 0 {
            source.heard = monotonic();
            let data = self.buffer.get(..count).unwrap_or_default();
            let read = opened.position();
            source.splitter.push(data, |bytes, left| {
                let offset = read.offset.saturating_sub(left as u64);
                lines.push(line(number, bytes, Some(Position { offset, ..read })));
            });
            return Ok(true);
        }
        if opened.text.is_none() && opened.part.file.metadata()?.len() < opened.offset {
            opened.offset = 0;
            let begin = opened.position();
            lines.extend(source.splitter.finish().map(|bytes| line(number, bytes, Some(begin))));
            return Ok(true);
        }
        self.go_on(number, lines)
    }

    /// Begins with the first file that there is.
    fn first(&mut self, number: usize) -> io::Result<bool> {
        let Some(source) = self.sources.get(number) else {
            return Ok(false);
        };
        let (path, all) = (source.path.clone(), source.unborn);
        let (found, births) = self.counted(number, || next::first(&path, all))?;
        let Some((part, newer)) = found else {
            return Ok(false);
        };
        self.begin(number, part, 0)?;
        self.number(number, births, newer);
        Ok(true)
    }

    /// Goes on with the file after the one that is at its end, if there is one.
    fn go_on(&mut self, number: usize, lines: &mut Vec<Line>) -> io::Result<bool> {
        let Some(source) = self.sources.get_mut(number) else {
            return Ok(false);
        };
        let (path, Some(opened)) = (source.path.clone(), source.open.take()) else {
            return Ok(false);
        };
        let found = self.counted(number, || next::after(&path, &opened.part));
        let is_longer = opened.text.is_none() && opened.part.file.metadata()?.len() > opened.offset;
        let Some(source) = self.sources.get_mut(number) else {
            return Ok(false);
        };
        source.open = Some(opened);
        let (Some(next), births) = found? else {
            return Ok(is_longer);
        };
        if is_longer {
            // Written after the look at its end and before the rotation; now it is complete.
            return Ok(true);
        }
        let read = source.open.as_ref().map(Opened::position);
        lines.extend(source.splitter.finish().map(|bytes| line(number, bytes, read)));
        let ordinal = source.ordinal;
        let now = match (next.follows, ordinal) {
            (true, Some(ordinal)) => Some(ordinal.wrapping_add(1)),
            (true, None) | (false, _) => births.map(|births| births.wrapping_sub(next.newer)),
        };
        source.ordinal = now;
        lines.extend(gap(&next, ordinal, now).map(|text| Line {
            source: number,
            bytes: text.into_bytes(),
            notice: true,
            after: None,
        }));
        self.begin(number, next.part, 0)?;
        Ok(true)
    }
}

impl Opened {
    /// Up to where it was read.
    const fn position(&self) -> Position {
        Position {
            identity: self.part.identity,
            offset: self.offset,
        }
    }

    /// The next bytes; none at the end.
    fn read(&mut self, buffer: &mut [u8], number: usize, lines: &mut Vec<Line>) -> io::Result<usize> {
        let count = match &mut self.text {
            None => self.part.file.read_at(buffer, self.offset)?,
            Some(text) => match text.read(buffer) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return self.read(buffer, number, lines),
                Err(error) => {
                    self.text = Some(Box::new(io::empty()));
                    lines.push(Line {
                        source: number,
                        bytes: format!("lines are missing here: a compressed file is damaged ({error})").into_bytes(),
                        notice: true,
                        after: None,
                    });
                    0
                }
            },
        };
        self.offset += count as u64;
        Ok(count)
    }
}

const fn line(source: usize, bytes: Vec<u8>, after: Option<Position>) -> Line {
    Line {
        source,
        bytes,
        notice: false,
        after,
    }
}

/// What is said where files are missing between the last one and this.
fn gap(next: &Next, last: Option<u64>, now: Option<u64>) -> Option<String> {
    if next.follows {
        return None;
    }
    match (last, now) {
        (Some(last), Some(now)) if last >> 32 == now >> 32 => match now.wrapping_sub(last).cast_signed() {
            ..=1 => None,
            2 => Some("lines are missing here: a rotated file was removed before it was read".to_owned()),
            more => Some(format!(
                "lines are missing here: {} rotated files were removed before they were read",
                more - 1
            )),
        },
        // Not counted, but rotated away before it was read to its end.
        _ if next.removed && next.newer > 0 => {
            Some("lines may be missing here: rotated files were removed before they were read".to_owned())
        }
        _ => None,
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests make files")]
mod tests {
    use super::{Follower, From};
    use crate::logs::compress::compress_all;
    use crate::logs::query::{Filter, Query, Source};
    use crate::logs::rotate::{Shelf, rotated};
    use crate::model::logspec::LogFormat;
    use std::fs::{self, File};
    use std::io::Write;
    use std::time::Duration;

    fn wait(follower: &mut Follower, count: usize) -> Vec<String> {
        let mut lines = Vec::new();
        for _ in 0..50 {
            let more = follower.next(Some(Duration::from_millis(200))).unwrap();
            lines.extend(more.into_iter().map(|line| String::from_utf8(line.bytes).unwrap()));
            if lines.len() >= count {
                break;
            }
        }
        lines
    }

    fn append(path: &std::path::Path, text: &str) {
        let mut file = File::options().append(true).create(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn follows_a_file_through_its_whole_life() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/er/a.log");
        let mut follower = Follower::new(vec![(path.clone(), From::Beginning)]).unwrap();
        assert_eq!(wait(&mut follower, 0).len(), 0);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        append(&path, "one\ntw");
        assert_eq!(wait(&mut follower, 1), ["one"]);
        append(&path, "o\n");
        assert_eq!(wait(&mut follower, 1), ["two"]);
        append(&path, "last of old\n");
        fs::rename(&path, rotated(&path, 1, false)).unwrap();
        append(&path, "between\n");
        fs::rename(rotated(&path, 1, false), rotated(&path, 2, false)).unwrap();
        fs::rename(&path, rotated(&path, 1, false)).unwrap();
        append(&path, "new\n");
        assert_eq!(wait(&mut follower, 3), ["last of old", "between", "new"]);
        File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
        append(&path, "x\n");
        assert_eq!(wait(&mut follower, 1), ["x"]);
        fs::remove_file(&path).unwrap();
        append(&path, "again\nprompt> ");
        assert_eq!(wait(&mut follower, 2), ["again", "prompt> "]);
    }

    #[test]
    fn misses_nothing_of_a_file_that_is_rotated_before_it_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        let mut follower = Follower::new(vec![(path.clone(), From::Beginning)]).unwrap();
        append(&path, "1\n");
        fs::rename(&path, rotated(&path, 2, false)).unwrap();
        append(&path, "2\n");
        fs::rename(&path, rotated(&path, 1, false)).unwrap();
        append(&path, "3\n");
        assert_eq!(wait(&mut follower, 3), ["1", "2", "3"]);
        let mut later = Follower::new(vec![(path.clone(), From::Beginning)]).unwrap();
        for (name, older) in [
            (rotated(&path, 2, false), 3),
            (rotated(&path, 1, false), 2),
            (path.clone(), 1),
        ] {
            fs::rename(name, rotated(&path, older, false)).unwrap();
        }
        append(&path, "4\n");
        assert_eq!(wait(&mut later, 2), ["3", "4"]);
    }

    #[test]
    fn goes_on_where_a_query_ended_even_after_a_rotation_and_gzip() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        append(&path, "1\n2\n3");
        let source = Source {
            path: path.clone(),
            format: LogFormat::Raw,
            zone: None,
            times: None,
        };
        let query = Query::open(vec![source], Filter::default(), false).unwrap();
        let position = query.ends()[0].unwrap();
        assert_eq!(query.count(), 2);
        append(&path, "3\n");
        fs::rename(&path, rotated(&path, 1, false)).unwrap();
        append(&path, "4\n");
        let follow = || Follower::new(vec![(path.clone(), From::At(position))]).unwrap();
        assert_eq!(wait(&mut follow(), 2), ["33", "4"]);
        compress_all(&path, &Shelf::default()).unwrap();
        assert_eq!(wait(&mut follow(), 2), ["33", "4"]);
    }
}
