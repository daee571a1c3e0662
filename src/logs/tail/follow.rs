//! Follows files by inotify: what is written, rotated, truncated, removed or created.
//!
//! Each source's folder is watched for its name (or the nearest folder that exists, until the right
//! one does), and its file for changes. After a rename the old file is read to its end before the new
//! one is begun. Rotations faster than the reader are followed through `<path>.N` as long as those
//! files are not compressed yet; lines of a file that was rotated *and* compressed while the reader
//! was stalled are in the log, but not in what is followed.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

use crate::logs::clock::monotonic;
use crate::logs::rotate::all_rotated;
use crate::logs::tail::last::Position;
use crate::logs::tail::split::Splitter;
use crate::model::duration::Millis;
use crate::model::time::Moment;

/// An unfinished line is given after this much silence.
const SILENCE: Millis = Millis(200);
/// Bytes read from one source before the others get their turn.
const BLOCK: usize = 256 << 10;

/// A line of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The number of the source, as given to the follower.
    pub source: usize,
    /// Without its newline.
    pub bytes: Vec<u8>,
}

/// Where following begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// With the first byte of the current file.
    Beginning,
    /// After what is there now.
    End,
    /// Where [`last`](super::last::last) ended, even if the file was rotated since.
    At(Position),
}

#[derive(Debug)]
struct Source {
    path: PathBuf,
    file: Option<Opened>,
    /// Rotated files between the one being read and the current one, oldest first.
    between: VecDeque<File>,
    folder: Option<(WatchDescriptor, bool)>,
    splitter: Splitter,
    /// When the last byte of an unfinished line came.
    heard: Moment,
    /// Nothing was there yet, not even something rotated: whatever appears is to be read.
    unborn: bool,
}

#[derive(Debug)]
struct Opened {
    file: File,
    dev: u64,
    ino: u64,
    offset: u64,
    watch: Option<WatchDescriptor>,
}

/// Gives whole lines of many files as they come.
#[derive(Debug)]
pub struct Follower {
    inotify: Inotify,
    sources: Vec<Source>,
    folders: HashMap<WatchDescriptor, BTreeSet<usize>>,
    files: HashMap<WatchDescriptor, BTreeSet<usize>>,
    /// Sources that may have something.
    dirty: BTreeSet<usize>,
    buffer: Box<[u8]>,
}

impl AsFd for Follower {
    /// Readable when there may be something; an unfinished line makes no event.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

impl Follower {
    /// Follows these files; the number of a source is its place here.
    ///
    /// # Errors
    /// When the system gives no inotify, or a file exists and cannot be read.
    pub fn new(sources: Vec<(PathBuf, From)>) -> io::Result<Self> {
        let mut follower = Self {
            inotify: Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?,
            sources: Vec::new(),
            folders: HashMap::new(),
            files: HashMap::new(),
            dirty: BTreeSet::new(),
            buffer: vec![0; BLOCK].into_boxed_slice(),
        };
        for (path, from) in sources {
            follower.add(path, from)?;
        }
        Ok(follower)
    }

    /// Follows one more file; returns its number.
    ///
    /// # Errors
    /// When it exists and cannot be read.
    pub fn add(&mut self, path: PathBuf, from: From) -> io::Result<usize> {
        let number = self.sources.len();
        self.sources.push(Source {
            path,
            file: None,
            between: VecDeque::new(),
            folder: None,
            splitter: Splitter::default(),
            heard: Moment(0),
            unborn: false,
        });
        self.watch_folder(number);
        let path = self
            .sources
            .get(number)
            .map(|source| source.path.clone())
            .unwrap_or_default();
        match from {
            From::Beginning => match open(&path)? {
                Some(file) => self.begin(number, file, 0)?,
                None => {
                    if let Some(source) = self.sources.get_mut(number) {
                        source.unborn = all_rotated(&path).next().is_none();
                    }
                }
            },
            From::End => {
                if let Some(file) = open(&path)? {
                    let size = file.metadata()?.len();
                    self.begin(number, file, size)?;
                }
            }
            From::At(position) => {
                let is_it = |file: &File| {
                    file.metadata()
                        .is_ok_and(|meta| (meta.dev(), meta.ino()) == (position.dev, position.ino))
                };
                let plain = all_rotated(&path).filter(|(_, gzip, _)| !gzip);
                let mut candidates = plain.filter_map(|(name, ..)| open(&name).ok().flatten());
                let old = open(&path)?.filter(is_it).or_else(|| candidates.find(is_it));
                if let Some(file) = old {
                    self.begin(number, file, position.offset)?;
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
        self.events()?;
        let mut lines = Vec::new();
        for number in std::mem::take(&mut self.dirty) {
            if self.read(number, &mut lines)? {
                self.dirty.insert(number);
            }
        }
        let now = monotonic();
        for (number, source) in self.sources.iter_mut().enumerate() {
            if source.splitter.is_inside() && source.heard.after(SILENCE) <= now {
                lines.extend(source.splitter.finish().map(|bytes| Line { source: number, bytes }));
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
        match poll(&mut [PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN)], millis) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn events(&mut self) -> io::Result<()> {
        loop {
            let events = match self.inotify.read_events() {
                Ok(events) => events,
                Err(Errno::EAGAIN | Errno::EINTR) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            };
            for event in events {
                if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                    self.dirty.extend(0..self.sources.len());
                } else if let Some(numbers) = self.files.get(&event.wd) {
                    self.dirty.extend(numbers);
                } else {
                    self.folder_event(event.wd, event.name.as_deref(), event.mask);
                }
            }
        }
    }

    fn folder_event(&mut self, folder: WatchDescriptor, name: Option<&OsStr>, mask: AddWatchFlags) {
        let gone = mask.contains(AddWatchFlags::IN_IGNORED);
        let numbers = self.folders.get(&folder).cloned().unwrap_or_default();
        for number in numbers {
            let Some(source) = self.sources.get(number) else {
                continue;
            };
            let exact = source.folder.is_some_and(|(_, exact)| exact);
            if gone || !exact {
                self.watch_folder(number);
                self.dirty.insert(number);
            } else if name.is_none() || name == source.path.file_name() {
                self.dirty.insert(number);
            }
        }
        if gone {
            self.folders.remove(&folder);
        }
    }

    /// Watches the folder of a source, or the nearest one above it that exists.
    fn watch_folder(&mut self, number: usize) {
        let Some(source) = self.sources.get_mut(number) else {
            return;
        };
        let flags = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        let parent = source.path.parent().unwrap_or(Path::new("/")).to_owned();
        let mut exact = true;
        let mut below: Option<&Path> = None;
        for folder in parent.ancestors() {
            if let Ok(watch) = self.inotify.add_watch(folder, flags) {
                // Made between the two calls: then the lower one can be watched after all.
                if below.is_some_and(Path::exists) {
                    return self.watch_folder(number);
                }
                source.folder = Some((watch, exact));
                self.folders.entry(watch).or_default().insert(number);
                return;
            }
            exact = false;
            below = Some(folder);
        }
    }

    fn begin(&mut self, number: usize, file: File, offset: u64) -> io::Result<()> {
        let meta = file.metadata()?;
        // By descriptor, because the name may belong to another file by now.
        let name = format!("/proc/self/fd/{}", file.as_raw_fd());
        let watch = self.inotify.add_watch(name.as_str(), AddWatchFlags::IN_MODIFY).ok();
        let Some(source) = self.sources.get_mut(number) else {
            return Ok(());
        };
        let old = source.file.replace(Opened {
            file,
            dev: meta.dev(),
            ino: meta.ino(),
            offset,
            watch,
        });
        if let Some(old) = old.and_then(|old| old.watch).filter(|old| Some(*old) != watch)
            && let Some(numbers) = self.files.get_mut(&old)
        {
            numbers.remove(&number);
            if numbers.is_empty() {
                self.files.remove(&old);
                // Gone already if the file was removed.
                let _unwatched = self.inotify.rm_watch(old);
            }
        }
        if let Some(watch) = watch {
            self.files.entry(watch).or_default().insert(number);
        }
        Ok(())
    }

    /// Reads a block; true when there may be more.
    fn read(&mut self, number: usize, lines: &mut Vec<Line>) -> io::Result<bool> {
        let Some(source) = self.sources.get_mut(number) else {
            return Ok(false);
        };
        if let Some(opened) = &mut source.file {
            let count = opened.file.read_at(&mut self.buffer, opened.offset)?;
            if count > 0 {
                opened.offset += count as u64;
                source.heard = monotonic();
                let data = self.buffer.get(..count).unwrap_or_default();
                source
                    .splitter
                    .push(data, |bytes| lines.push(Line { source: number, bytes }));
                return Ok(true);
            }
            if opened.file.metadata()?.len() < opened.offset {
                opened.offset = 0;
                lines.extend(source.splitter.finish().map(|bytes| Line { source: number, bytes }));
                return Ok(true);
            }
        }
        if let Some(file) = self.successor(number)? {
            if let Some(source) = self.sources.get_mut(number) {
                if let Some(opened) = &source.file
                    && opened.file.metadata()?.len() > opened.offset
                {
                    // Written after the look at its end and before the rotation; now it is complete.
                    source.between.push_front(file);
                    return Ok(true);
                }
                lines.extend(source.splitter.finish().map(|bytes| Line { source: number, bytes }));
            }
            self.begin(number, file, 0)?;
            return Ok(true);
        }
        Ok(false)
    }

    /// The file to read after the one that is at its end.
    fn successor(&mut self, number: usize) -> io::Result<Option<File>> {
        let Some(source) = self.sources.get_mut(number) else {
            return Ok(None);
        };
        if let Some(file) = source.between.pop_front() {
            return Ok(Some(file));
        }
        let Some(current) = open(&source.path)? else {
            return Ok(None);
        };
        let identity = |file: &File| file.metadata().map(|meta| (meta.dev(), meta.ino()));
        let Some(old) = &source.file else {
            let mut seen = BTreeSet::from([identity(&current)?]);
            source.between.push_front(current);
            // It may have been rotated before it was seen for the first time.
            let born = if std::mem::take(&mut source.unborn) {
                usize::MAX
            } else {
                0
            };
            for (name, gzip, _) in all_rotated(&source.path).take(born) {
                if let Some(file) = open(&name)?.filter(|_| !gzip)
                    && seen.insert(identity(&file)?)
                {
                    source.between.push_front(file);
                }
            }
            return Ok(source.between.pop_front());
        };
        let mut seen = BTreeSet::from([identity(&current)?]);
        if seen.contains(&(old.dev, old.ino)) {
            return Ok(None);
        }
        let mut newer = VecDeque::from([current]);
        for (name, gzip, _) in all_rotated(&source.path) {
            let Some(file) = open(&name)?.filter(|_| !gzip) else {
                continue;
            };
            let found = identity(&file)?;
            if found == (old.dev, old.ino) {
                source.between = newer;
                return Ok(source.between.pop_front());
            }
            if seen.insert(found) {
                newer.push_front(file);
            }
        }
        // The old one was removed or compressed: what came between cannot be told.
        Ok(newer.pop_back())
    }
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests make files")]
mod tests {
    use super::{Follower, From};
    use crate::logs::rotate::rotated;
    use crate::logs::tail::last;
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
    fn goes_on_where_last_ended_even_after_a_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        append(&path, "1\n2\n3");
        let found = last(&path, 1, false).unwrap();
        assert_eq!(found.lines, [b"2"]);
        append(&path, "3\n");
        fs::rename(&path, rotated(&path, 1, false)).unwrap();
        append(&path, "4\n");
        let mut follower = Follower::new(vec![(path, From::At(found.position.unwrap()))]).unwrap();
        assert_eq!(wait(&mut follower, 2), ["33", "4"]);
    }
}
