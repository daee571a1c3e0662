//! Which file of a log comes after another, whatever was renamed, compressed and removed meanwhile.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

use crate::logs::chain::{self, Identity, Part, Position};
use crate::logs::moment;

/// The file to go on with.
#[derive(Debug)]
pub(super) struct Next {
    pub(super) part: Part,
    /// Files of the log that are newer.
    pub(super) newer: u64,
    /// It comes directly after the one that was read. If not, that one is gone, and others may be.
    pub(super) follows: bool,
    /// The one that was read was removed.
    pub(super) removed: bool,
}

/// The file that comes after `old`; none while `old` is the newest.
///
/// The files are looked at from the newest on, and they only move up, so that neither `old` nor the one before it is
/// missed; it may be seen twice.
pub(super) fn after(path: &Path, old: &Part) -> io::Result<Option<Next>> {
    let current = current(path)?;
    if current.as_ref().is_some_and(|part| part.identity == old.identity) {
        return Ok(None);
    }
    moment::look();
    let meta = old.file.metadata()?;
    let removed = meta.nlink() == 0;
    // It was written to since it was opened.
    let modified = meta.modified()?;
    // What is newer than a file that is gone: written to later. Of equals, both were written in one moment.
    let is_newer = |part: &Part| part.modified > modified || (part.modified == modified && meta.len() > 0);
    let mut newer = u64::from(current.is_some());
    let mut best = current.as_ref().map(copy).transpose()?.map(|part| (part, newer));
    let mut last = current;
    for part in chain::rotated_parts(path) {
        let part = part?;
        if is_same(&part, old, modified, removed) {
            return Ok(last.map(|part| Next {
                part,
                newer: newer.saturating_sub(1),
                follows: true,
                removed,
            }));
        }
        if last.as_ref().is_some_and(|last| last.identity == part.identity) {
            continue;
        }
        newer += 1;
        if is_newer(&part) {
            best = Some((copy(&part)?, newer));
        }
        last = Some(part);
    }
    Ok(best.map(|(part, newer)| Next {
        part,
        newer: newer.saturating_sub(1),
        follows: false,
        removed,
    }))
}

/// The file itself, or what it was compressed to. One that another program compressed does not say what it was; but it
/// has the time of the last write.
fn is_same(part: &Part, old: &Part, modified: SystemTime, removed: bool) -> bool {
    let is_unmarked = || {
        part.file
            .metadata()
            .is_ok_and(|meta| Identity::of(&meta) == part.identity)
    };
    part.identity == old.identity || (removed && part.gzip && !old.gzip && part.modified == modified && is_unmarked())
}

/// The first file there is: with `all`, the oldest, else the current one.
pub(super) fn first(path: &Path, all: bool) -> io::Result<Option<(Part, u64)>> {
    let mut found = current(path)?.map(|part| (part, 0));
    if all {
        for part in chain::rotated_parts(path) {
            let part = part?;
            let newer = match &found {
                Some((known, _)) if known.identity == part.identity => continue,
                Some((_, newer)) => newer + 1,
                None => 0,
            };
            found = Some((part, newer));
        }
    }
    Ok(found)
}

/// The file that has this place.
pub(super) fn at(path: &Path, position: Position) -> io::Result<Option<(Part, u64)>> {
    let mut newer = 0;
    let mut last = None;
    for part in current(path)?.map(Ok).into_iter().chain(chain::rotated_parts(path)) {
        let part = part?;
        if part.identity == position.identity {
            return Ok(Some((part, newer)));
        }
        if last.replace(part.identity) != Some(part.identity) {
            newer += 1;
        }
    }
    Ok(None)
}

pub(super) fn current(path: &Path) -> io::Result<Option<Part>> {
    chain::open(path)?.map(|file| Part::new(file, false)).transpose()
}

fn copy(part: &Part) -> io::Result<Part> {
    Ok(Part {
        file: part.file.try_clone()?,
        ..*part
    })
}
