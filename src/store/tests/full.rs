//! No room on the disk.

use std::path::Path;
use std::sync::mpsc::{Receiver, channel};

use super::{PATIENCE, commit, env, event, events, open, row, wait};
use crate::model::event::EventKind;
use crate::model::names::AppId;
use crate::model::time::WallTime;
use crate::store::{AppRow, Change, EventQuery, Opened, Options, Store, StoreError};

fn watched(path: &Path) -> (Opened, Receiver<(bool, String)>) {
    let (send, receive) = channel();
    let options = Options {
        now: WallTime(0),
        on_trouble: Box::new(move |bad, message| drop(send.send((bad, message)))),
    };
    (Store::open(path, options).unwrap(), receive)
}

fn large(id: u32) -> AppRow {
    row(id, &env(&[("LARGE", &"x".repeat(100_000)), ("ID", &id.to_string())]))
}

/// Puts apps until one is refused; returns how many are in.
fn fill(store: &Store) -> usize {
    for id in 1..1000 {
        match commit(store, vec![Change::PutApps(vec![large(id)])]) {
            Ok(()) => {}
            Err(StoreError::Full) => return id as usize - 1,
            Err(error) => panic!("{error:?}"),
        }
    }
    panic!("never full");
}

/// A small write may still find room after a large one did not; takes that, too. Returns the last number.
fn exhaust(store: &Store) -> u64 {
    for seq in 1..100_000 {
        store.note(event(seq, "a", EventKind::Started));
        if seq % 200 == 0 && wait(|reply| store.flush(reply)).is_err() {
            return seq;
        }
    }
    panic!("never full");
}

#[test]
fn a_full_database_refuses_commits_keeps_notes_and_recovers_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clmgr.db");
    let limit = |store: &Store, pages: u32| {
        store.inspect(move |c| c.execute_batch(&format!("PRAGMA max_page_count = {pages}")).unwrap());
    };
    let (Opened { store, .. }, trouble) = watched(&path);
    limit(&store, 60);
    let written = fill(&store);
    assert!(trouble.recv_timeout(PATIENCE).unwrap().0);
    let changes = vec![
        Change::DeleteApps(vec![AppId(1)]),
        Change::PutApps(vec![large(500), large(501), large(502)]),
    ];
    assert!(matches!(commit(&store, changes), Err(StoreError::Full)));
    let mut seq = exhaust(&store);
    assert!(trouble.try_iter().last().is_none_or(|(bad, _)| bad));
    for _ in 0..5000 {
        seq += 1;
        store.note(event(seq, "a", EventKind::Started));
    }
    assert!(wait(|reply| store.flush(reply)).is_err());
    assert!(trouble.try_recv().is_err(), "told more than once");
    limit(&store, 1_000_000);
    // Nobody asks: it is the timer that finds out.
    let (bad, message) = trouble.recv_timeout(PATIENCE).unwrap();
    assert!(!bad && message.contains("events were lost"), "{message}");
    let kept = events(&store, EventQuery::default());
    let newest: Vec<u64> = (seq - 4095..=seq).collect();
    assert!(kept.ends_with(&newest));
    assert!(trouble.try_recv().is_err(), "told more than once");
    drop(store);
    assert_eq!(open(&path).state.apps.len(), written);
}

/// A file system of eight megabytes, unmounted whatever happens.
struct Tiny(tempfile::TempDir);

impl Tiny {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        nix::mount::mount(
            Some("tmpfs"),
            folder.path(),
            Some("tmpfs"),
            nix::mount::MsFlags::empty(),
            Some("size=8m"),
        )
        .ok()?;
        Some(Self(folder))
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        let _gone = nix::mount::umount2(self.0.path(), nix::mount::MntFlags::MNT_DETACH);
    }
}

#[test]
fn a_full_disk_refuses_commits_keeps_notes_and_recovers_by_itself() {
    let Some(disk) = Tiny::mount() else {
        eprintln!("skipped: not allowed to mount");
        return;
    };
    let path = disk.0.path().join("clmgr.db");
    let (Opened { store, .. }, trouble) = watched(&path);
    let ballast = disk.0.path().join("ballast");
    std::fs::write(&ballast, vec![0; 4 << 20]).unwrap();
    let written = fill(&store);
    assert!(trouble.recv_timeout(PATIENCE).unwrap().0);
    let rest = disk.0.path().join("rest");
    std::fs::write(&rest, vec![0; 16 << 20]).unwrap_err();
    let seq = exhaust(&store);
    std::fs::remove_file(&ballast).unwrap();
    std::fs::remove_file(&rest).unwrap();
    wait(|reply| store.flush(reply)).unwrap();
    let kept = events(&store, EventQuery::default());
    assert_eq!(kept.last(), Some(&seq));
    assert_eq!(kept.len() as u64, seq);
    commit(&store, vec![Change::PutApps(vec![large(500)])]).unwrap();
    drop(store);
    let told: Vec<bool> = trouble.iter().map(|(bad, _)| bad).collect();
    assert!(told.len() % 2 == 1, "{told:?}");
    assert!(
        told.iter().enumerate().all(|(at, bad)| *bad == (at % 2 == 1)),
        "begin and end in turn: {told:?}"
    );
    assert_eq!(open(&path).state.apps.len(), written + 1);
}

#[test]
fn a_daemon_comes_back_on_a_full_disk() {
    let Some(disk) = Tiny::mount() else {
        eprintln!("skipped: not allowed to mount");
        return;
    };
    let path = disk.0.path().join("clmgr.db");
    let store = open(&path).store;
    commit(&store, vec![Change::PutApps(vec![large(1)])]).unwrap();
    drop(store);
    let ballast = disk.0.path().join("ballast");
    std::fs::write(&ballast, vec![0; 16 << 20]).unwrap_err();
    let opened = open(&path);
    assert_eq!(opened.state.apps.len(), 1);
    assert!(opened.notes[0].contains("not written"), "{:?}", opened.notes);
}
