//! Tells which files may have something new: by inotify, or by a timer where the system has no more of that.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

/// How often files are looked at without inotify, in nanoseconds.
const BEAT: i64 = 250_000_000;

/// Counting begins in the middle, because some files were there before.
const COUNT: u64 = 1 << 31;

/// Watches the files of a follower. All sources are known by their numbers.
#[derive(Debug)]
pub(super) struct Wake {
    means: Means,
    watched: Vec<Watched>,
    folders: HashMap<WatchDescriptor, BTreeSet<usize>>,
    files: HashMap<WatchDescriptor, BTreeSet<usize>>,
}

#[derive(Debug)]
enum Means {
    Inotify(Inotify),
    Timer(OwnedFd),
}

#[derive(Debug)]
struct Watched {
    path: PathBuf,
    /// Its folder (true), or the nearest one above it that exists.
    folder: Option<(WatchDescriptor, bool)>,
    file: Option<WatchDescriptor>,
    /// How often a file of this name was made; none where that may have been missed. The upper half is another one each
    /// time the counting began anew.
    births: Option<u64>,
    /// How often it did.
    epoch: u32,
}

impl Wake {
    pub(super) fn new() -> io::Result<Self> {
        let means = match Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK) {
            Ok(inotify) => Means::Inotify(inotify),
            // Too many instances of this user.
            Err(Errno::EMFILE | Errno::ENFILE | Errno::ENOSYS) => Means::Timer(timer()?),
            Err(errno) => return Err(errno.into()),
        };
        Ok(Self {
            means,
            watched: Vec::new(),
            folders: HashMap::new(),
            files: HashMap::new(),
        })
    }

    /// The files are looked at again and again.
    pub(super) const fn is_polling(&self) -> bool {
        matches!(self.means, Means::Timer(_))
    }

    /// Watches for one more name.
    pub(super) fn add(&mut self, path: &Path) -> io::Result<()> {
        self.watched.push(Watched {
            path: path.to_owned(),
            folder: None,
            file: None,
            births: None,
            epoch: 0,
        });
        self.watch_folder(self.watched.len() - 1)
    }

    /// How often a file of this source's name was made since [`Self::add`], as far as [`Self::events`] has read; none
    /// if that is not known.
    pub(super) fn births(&self, number: usize) -> Option<u64> {
        self.watched.get(number)?.births
    }

    /// Takes what happened; adds the sources that may have something to `dirty`.
    pub(super) fn events(&mut self, dirty: &mut BTreeSet<usize>) -> io::Result<()> {
        loop {
            let read = match &self.means {
                Means::Timer(timer) => {
                    let mut beats = [0; 8];
                    if rustix::io::read(timer, &mut beats).is_ok() {
                        dirty.extend(0..self.watched.len());
                    }
                    return Ok(());
                }
                Means::Inotify(inotify) => inotify.read_events(),
            };
            let events = match read {
                Ok(events) => events,
                Err(Errno::EAGAIN | Errno::EINTR) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            };
            for event in events {
                if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                    dirty.extend(0..self.watched.len());
                    self.watched.iter_mut().for_each(|watched| watched.births = None);
                } else if let Some(numbers) = self.files.get(&event.wd) {
                    dirty.extend(numbers);
                } else {
                    self.folder_event(event.wd, event.name.as_deref(), event.mask, dirty)?;
                }
            }
        }
    }

    fn folder_event(
        &mut self,
        folder: WatchDescriptor,
        name: Option<&OsStr>,
        mask: AddWatchFlags,
        dirty: &mut BTreeSet<usize>,
    ) -> io::Result<()> {
        let gone = mask.contains(AddWatchFlags::IN_IGNORED);
        let is_birth = mask.intersects(AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO);
        for number in self.folders.get(&folder).cloned().unwrap_or_default() {
            let Some(watched) = self.watched.get_mut(number) else {
                continue;
            };
            let is_exact = watched.folder.is_some_and(|(_, exact)| exact);
            if gone || !is_exact {
                self.watch_folder(number)?;
                dirty.insert(number);
            } else if name.is_none() || name == watched.path.file_name() {
                dirty.insert(number);
                if is_birth {
                    watched.births = watched.births.map(|births| births + 1);
                }
            }
        }
        if gone {
            self.folders.remove(&folder);
        }
        Ok(())
    }

    /// Watches the folder of a source, or the nearest one above it that exists.
    fn watch_folder(&mut self, number: usize) -> io::Result<()> {
        // With removals, so that births of a name are never next to each other: the kernel makes one event of equal ones.
        let flags = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        let (Means::Inotify(inotify), Some(watched)) = (&self.means, self.watched.get_mut(number)) else {
            return Ok(());
        };
        let parent = watched.path.parent().unwrap_or(Path::new("/")).to_owned();
        let mut exact = true;
        let mut below: Option<&Path> = None;
        for folder in parent.ancestors() {
            match inotify.add_watch(folder, flags) {
                Ok(watch) => {
                    // Made between the two calls: then the lower one can be watched after all.
                    if below.is_some_and(Path::exists) {
                        return self.watch_folder(number);
                    }
                    watched.folder = Some((watch, exact));
                    watched.epoch += 1;
                    watched.births = exact.then_some(u64::from(watched.epoch) << 32 | COUNT);
                    self.folders.entry(watch).or_default().insert(number);
                    return Ok(());
                }
                Err(Errno::ENOSPC | Errno::ENOMEM) => return self.poll(),
                Err(_) => {}
            }
            exact = false;
            below = Some(folder);
        }
        Ok(())
    }

    /// Watches this file for the source, and no longer the one it had.
    pub(super) fn watch_file(&mut self, number: usize, file: &File) -> io::Result<()> {
        let (Means::Inotify(inotify), Some(watched)) = (&self.means, self.watched.get_mut(number)) else {
            return Ok(());
        };
        // By descriptor, because the name may belong to another file by now.
        let name = format!("/proc/self/fd/{}", file.as_raw_fd());
        let watch = match inotify.add_watch(name.as_str(), AddWatchFlags::IN_MODIFY) {
            Ok(watch) => Some(watch),
            Err(Errno::ENOSPC | Errno::ENOMEM) => return self.poll(),
            // Removed and compressed: nobody writes to it.
            Err(_) => None,
        };
        let old = std::mem::replace(&mut watched.file, watch).filter(|old| Some(*old) != watch);
        if let Some(old) = old
            && let Some(numbers) = self.files.get_mut(&old)
        {
            numbers.remove(&number);
            if numbers.is_empty() {
                self.files.remove(&old);
                // Gone already if the file was removed.
                let _unwatched = inotify.rm_watch(old);
            }
        }
        if let Some(watch) = watch {
            self.files.entry(watch).or_default().insert(number);
        }
        Ok(())
    }

    /// No more watches are to be had: all files are looked at again and again instead.
    pub(super) fn poll(&mut self) -> io::Result<()> {
        self.means = Means::Timer(timer()?);
        self.folders.clear();
        self.files.clear();
        self.watched.iter_mut().for_each(|watched| watched.births = None);
        Ok(())
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.means {
            Means::Inotify(inotify) => inotify.as_fd(),
            Means::Timer(timer) => timer.as_fd(),
        }
    }
}

fn timer() -> io::Result<OwnedFd> {
    let timer = timerfd_create(
        TimerfdClockId::Monotonic,
        TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
    )?;
    let beat = Timespec {
        tv_sec: 0,
        tv_nsec: BEAT,
    };
    let beats = Itimerspec {
        it_interval: beat,
        it_value: beat,
    };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &beats)?;
    Ok(timer)
}
