//! Removes rotated files over the bounds of [`crate::logs::bounds`], of stopped apps as well.
//!
//! ```text
//!  after a rotation ──────┐
//!  no space left ─────────┼─► a round, on a thread of its own that ends with it: look, decide, remove ──► Report
//!  an app is new, changed ┤                                                                     │
//!  the slow timer ────────┘◄──────────────────── when to look again ────────────────────────────┘
//! ```
//!
//! There is one round at a time. It removes no more than what lacked at its beginning, and free space is looked at
//! once a second at most: whoever else fills the disk does not empty the logs at once. Without a rotated file there is
//! no timer.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use nix::sys::eventfd::EventFd;
use rustix::fs::unlink;

use crate::logs::bounds::{Found, LOOK, Old, Space, Why, next_look, victims};
use crate::logs::outage::RETRY;
use crate::logs::rotate::{Shelf, all_rotated, existing, rotated};
use crate::logs::sink::Removal;
use crate::model::duration::Millis;
use crate::model::logspec::Rotation;
use crate::model::names::AppName;
use crate::model::time::{Moment, WallTime};
use crate::os::fsx;

/// What is new is looked at when the start of many is over.
const SETTLE: Millis = Millis(if cfg!(test) { 20 } else { 2_000 });
/// The longest sleep: clocks are set, machines sleep.
const LONGEST: Millis = Millis::from_secs(3_600);

/// A log of an app, whether it runs or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The current file.
    pub path: Arc<Path>,
    /// The rules for it.
    pub rotation: Arc<Rotation>,
}

/// Knows all logs and when to look at them; owned by the pump thread.
#[derive(Debug)]
pub struct Tidy {
    known: Arc<BTreeMap<AppName, Vec<Known>>>,
    asked: BTreeSet<AppName>,
    all: bool,
    /// What is asked for is done then.
    due: Moment,
    /// Free space is to be looked at, not before `space_after`.
    space: bool,
    space_after: Moment,
    /// When to look at all.
    next: Option<WallTime>,
    running: bool,
    untold: Option<Removal>,
    tell_after: Moment,
    reports: (Sender<Report>, Receiver<Report>),
}

impl Default for Tidy {
    fn default() -> Self {
        Self {
            known: Arc::default(),
            asked: BTreeSet::new(),
            all: false,
            due: Moment(0),
            space: false,
            space_after: Moment(0),
            next: None,
            running: false,
            untold: None,
            tell_after: Moment(0),
            reports: channel(),
        }
    }
}

/// What a round has done.
#[derive(Debug, Default)]
struct Report {
    /// It has looked at everything.
    all: bool,
    next: Option<WallTime>,
    removal: Option<Removal>,
    removed: bool,
}

impl Tidy {
    /// These are all logs of an app. Those of an app that is deleted stay known, as its files stay.
    pub fn know(&mut self, app: AppName, logs: Vec<Known>, now: Moment) {
        let all = Arc::make_mut(&mut self.known);
        for (other, known) in &mut *all {
            if *other != app {
                // It had the file before.
                known.retain(|log| logs.iter().all(|new| new.path != log.path));
            }
        }
        all.insert(app.clone(), logs);
        self.ask(now.after(SETTLE));
        self.asked.insert(app);
    }

    /// A log of this app was rotated.
    pub fn rotated(&mut self, app: &AppName, now: Moment) {
        if self.known.contains_key(app) {
            self.ask(now);
            self.asked.insert(app.clone());
        }
    }

    fn ask(&mut self, due: Moment) {
        let more = self.all || !self.asked.is_empty();
        self.due = if more { self.due.min(due) } else { due };
        self.space = true;
    }

    /// A file could not be written for want of space.
    pub fn no_space(&mut self, now: Moment) {
        if !self.known.is_empty() {
            self.ask(now);
            self.all = true;
        }
    }

    /// How long nothing is to be done; `None`: until something happens.
    #[must_use]
    pub fn wait(&self, now: Moment, wall: WallTime) -> Option<Millis> {
        let tell = self.untold.as_ref().map(|_| self.tell_after.since(now));
        if self.running {
            return tell;
        }
        let asked = (self.all || !self.asked.is_empty()).then(|| self.due.since(now));
        let space = (self.space && asked.is_none()).then(|| self.space_after.since(now));
        let timer = self.next.map(|next| {
            let left = next.0.saturating_sub(wall.0);
            Millis(u64::try_from(left).unwrap_or(0)).min(LONGEST)
        });
        [tell, asked, space, timer].into_iter().flatten().min()
    }

    /// Takes the last round's report and begins the next round if it is time. What was removed for want of space, when
    /// it is to be told; and whether something was removed just now.
    pub fn go(&mut self, now: Moment, wall: WallTime, shelf: &Shelf, wake: &Arc<EventFd>) -> (Option<Removal>, bool) {
        let mut removed = false;
        while let Ok(report) = self.reports.1.try_recv() {
            self.running = false;
            self.next = match (self.next, report.next) {
                (Some(old), Some(new)) if !report.all => Some(old.min(new)),
                (old, None) if !report.all => old,
                (_, new) => new,
            };
            removed |= report.removed;
            if let Some(more) = report.removal {
                match &mut self.untold {
                    Some(untold) => untold.add(more),
                    None => self.untold = Some(more),
                }
            }
        }
        self.begin(now, wall, shelf, wake);
        let told = self.untold.take_if(|_| self.tell_after <= now);
        if told.is_some() {
            self.tell_after = now.after(LOOK);
        }
        (told, removed)
    }

    fn begin(&mut self, now: Moment, wall: WallTime, shelf: &Shelf, wake: &Arc<EventFd>) {
        if self.running {
            return;
        }
        if self.next.is_some_and(|next| next <= wall) {
            self.ask(now);
            self.all = true;
            self.next = None;
        }
        let asked = (self.all || !self.asked.is_empty()) && self.due <= now;
        let space = self.space && self.space_after <= now && (asked || self.asked.is_empty() && !self.all);
        if !asked && !space {
            return;
        }
        if space {
            self.space = false;
            self.space_after = now.after(RETRY);
        }
        let round = Round {
            asked: std::mem::take(&mut self.asked),
            all: std::mem::take(&mut self.all),
            space,
            known: Arc::clone(&self.known),
            now: wall,
            shelf: shelf.clone(),
        };
        let (sender, wake) = (self.reports.0.clone(), Arc::clone(wake));
        let started = thread::Builder::new().name("logs-tidy".into()).spawn(move || {
            // The pump may have ended.
            let _gone = sender.send(round.run());
            let _woken = wake.write(1);
        });
        self.running = started.is_ok();
        if started.is_err() {
            // No thread now: some other time.
            self.next = Some(WallTime(wall.0 + 10_000));
        }
    }
}

/// One look at the disk.
struct Round {
    asked: BTreeSet<AppName>,
    all: bool,
    space: bool,
    known: Arc<BTreeMap<AppName, Vec<Known>>>,
    now: WallTime,
    shelf: Shelf,
}

impl Round {
    fn run(self) -> Report {
        let mut paths = Vec::new();
        let mut found = Vec::new();
        let spaces = if self.space { self.spaces() } else { BTreeMap::new() };
        let is_short = |log: &Known| spaces.contains_key(&device(&log.path));
        for (app, logs) in self.known.iter() {
            let all = self.all || self.asked.contains(app);
            for log in logs.iter().filter(|log| all || is_short(log)) {
                found.push(look(app, log));
                paths.push(Arc::clone(&log.path));
            }
        }
        let mut removals: BTreeMap<u64, Removal> = BTreeMap::new();
        let mut report = Report {
            all: self.all,
            ..Report::default()
        };
        for (log, old, why) in victims(&found, self.now, &spaces) {
            let Some((path, from)) = paths.get(log).zip(found.get_mut(log)) else {
                continue;
            };
            if !self.remove(path, &old) {
                continue;
            }
            report.removed = true;
            from.rotated.retain(|other| other != &old);
            if why == Why::Free {
                removals
                    .entry(from.device)
                    .or_insert_with(|| Removal::new(path.parent().unwrap_or(path)))
                    .count(&from.app, old.room);
            }
        }
        report.removal = removals.into_values().reduce(|mut all, more| {
            all.add(more);
            all
        });
        report.next = next_look(&found, self.now);
        report
    }

    /// The file systems on which less is free than some log wants.
    fn spaces(&self) -> BTreeMap<u64, Space> {
        let mut folders: BTreeMap<&Path, Vec<&Known>> = BTreeMap::new();
        for log in self.known.values().flatten() {
            if log.rotation.min_free.floor(u64::MAX) > 0
                && let Some(folder) = log.path.parent()
            {
                folders.entry(folder).or_default().push(log);
            }
        }
        let mut spaces = BTreeMap::new();
        for (folder, logs) in folders {
            // Nothing has been written there yet, or it is gone.
            let Ok(space) = fsx::space(folder) else { continue };
            let floor = logs.iter().map(|log| log.rotation.min_free.floor(space.total)).max();
            if space.free < floor.unwrap_or(0) {
                let space = Space {
                    free: space.free,
                    size: space.total,
                };
                spaces.insert(device_of(folder), space);
            }
        }
        spaces
    }

    /// Removes a rotated file, wherever a rotation has moved it; false if it is gone, or was compressed meanwhile.
    fn remove(&self, path: &Path, old: &Old) -> bool {
        let _names = self.shelf.lock();
        let is_it = |name: &Path| {
            name.symlink_metadata()
                .is_ok_and(|meta| meta.ino() == old.inode && written(&meta) == old.written)
        };
        let number = match existing(path, old.number) {
            Some((name, ..)) if is_it(&name) => Some(old.number),
            Some(_) | None => all_rotated(path)
                .find(|(name, ..)| is_it(name))
                .and_then(|(name, ..)| number_of(path, &name)),
        };
        let Some(number) = number else { return false };
        let mut any = false;
        for gzip in [false, true] {
            any |= unlink(rotated(path, number, gzip)).is_ok();
        }
        any
    }
}

/// The number in the name of a rotated file.
fn number_of(path: &Path, name: &Path) -> Option<u32> {
    let own = path.as_os_str().as_encoded_bytes();
    let rest = name.as_os_str().as_encoded_bytes().strip_prefix(own)?;
    let text = std::str::from_utf8(rest).ok()?.strip_prefix('.')?;
    text.strip_suffix(".gz").unwrap_or(text).parse().ok()
}

fn look(app: &AppName, log: &Known) -> Found {
    let current = log.path.metadata().ok().filter(std::fs::Metadata::is_file);
    let mut old: Vec<Old> = Vec::new();
    for (name, ..) in all_rotated(&log.path) {
        let Ok(meta) = name.symlink_metadata() else { continue };
        // A shift meanwhile may show a file twice.
        if old.iter().any(|other| other.inode == meta.ino()) {
            continue;
        }
        old.extend(number_of(&log.path, &name).map(|number| Old {
            number,
            written: written(&meta),
            size: meta.len(),
            room: meta.blocks() * 512,
            inode: meta.ino(),
        }));
    }
    old.reverse();
    Found {
        app: app.clone(),
        rotation: Arc::clone(&log.rotation),
        device: device(&log.path),
        current: current.map_or(0, |meta| meta.len()),
        rotated: old,
    }
}

fn written(meta: &std::fs::Metadata) -> WallTime {
    WallTime(
        meta.mtime()
            .saturating_mul(1000)
            .saturating_add(meta.mtime_nsec() / 1_000_000),
    )
}

fn device(path: &Path) -> u64 {
    device_of(path.parent().unwrap_or(path))
}

fn device_of(folder: &Path) -> u64 {
    folder.metadata().map_or(0, |meta| meta.dev())
}
