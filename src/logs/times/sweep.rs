//! Removes indexes of files that are gone.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::thread;

use rustix::fs::unlink;

use crate::logs::rotate::{all_rotated, temporary};
use crate::logs::times::index::{Header, Index, id_of};
use crate::os::clock;

/// Room, of which only what is used costs memory.
const STACK: usize = 1 << 20;

/// Does it on a thread of its own, with the lowest priority. When none can be started it is done another time.
pub(super) fn start(folder: &Path) {
    let folder = folder.to_owned();
    let _started = thread::Builder::new()
        .name("logs-times".into())
        .stack_size(STACK)
        .spawn(move || {
            let _niced = rustix::process::setpriority_process(None, 19);
            sweep(&folder);
        });
}

/// Removes the indexes in this folder that belong to no file beside the log that they were begun for.
pub(super) fn sweep(folder: &Path) {
    // First the indexes, then the files: a file that is new meanwhile has an index that is not looked at.
    let paths: Vec<PathBuf> = entries(folder)
        .filter(|entry| !entry.file_name().to_string_lossy().starts_with("recent."))
        .map(|entry| entry.path())
        .collect();
    let mut folders = HashMap::new();
    for path in paths {
        let Some(index) = Index::open_at(&path, false) else {
            // Damaged, or being begun.
            if is_old(&path) {
                let _gone = unlink(&path);
            }
            continue;
        };
        let parent = index.header.path.parent().unwrap_or(Path::new("/")).to_owned();
        let inodes: &HashSet<u64> = folders
            .entry(parent)
            .or_insert_with_key(|parent| entries(parent).map(|entry| entry.ino()).collect());
        // Some file systems number the entries of a folder otherwise than its files.
        if !inodes.contains(&index.header.id.1) && !has_file(&index.header) {
            let _gone = unlink(&path);
        }
    }
}

/// Whether nobody has written to it for a minute.
fn is_old(path: &Path) -> bool {
    let modified = path.metadata().map(|meta| meta.mtime());
    modified.is_ok_and(|seconds| seconds < clock::wall().0 / 1000 - 60)
}

fn entries(folder: &Path) -> impl Iterator<Item = fs::DirEntry> {
    fs::read_dir(folder).into_iter().flatten().flatten()
}

fn has_file(header: &Header) -> bool {
    let log = &header.path;
    let names = all_rotated(log).map(|(name, ..)| name);
    [log.clone(), temporary(log)]
        .into_iter()
        .chain(names)
        .any(|name| name.symlink_metadata().is_ok_and(|meta| id_of(&meta) == header.id))
}
