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
        spare: None,
        on_trouble: Box::new(move |bad, message| drop(send.send((bad, message)))),
        disk: Box::new(|| Ok(0)),
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
    let newest = EventQuery {
        newest_first: true,
        limit: Some(3),
        ..EventQuery::default()
    };
    assert_eq!(
        events(&store, newest),
        [seq, seq - 1, seq - 2],
        "known, though not written"
    );
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

#[test]
fn a_stop_is_written_on_a_full_disk_by_giving_up_the_reserve() {
    let Some(disk) = Tiny::mount() else {
        eprintln!("skipped: not allowed to mount");
        return;
    };
    let path = disk.0.path().join("clmgr.db");
    let (send, trouble) = channel();
    let folder = disk.0.path().to_owned();
    let options = Options {
        now: WallTime(0),
        spare: None,
        on_trouble: Box::new(move |bad, message| drop(send.send((bad, message)))),
        // The disk of this test is smaller than what the reserve asks for.
        disk: Box::new(move || Ok(crate::os::fsx::room(&folder)? * 4)),
    };
    let store = Store::open(&path, options).unwrap().store;
    commit(
        &store,
        vec![Change::PutApps(vec![row(1, &env(&[])), row(2, &env(&[]))])],
    )
    .unwrap();
    let reserve = disk.0.path().join("clmgr.db-reserve");
    assert_eq!(std::fs::metadata(&reserve).unwrap().len(), 1 << 20);
    let rest = disk.0.path().join("rest");
    std::fs::write(&rest, vec![0; 16 << 20]).unwrap_err();
    let want = |wanted, held: &[u32]| vec![Change::SetDesired(vec![(AppId(1), 2, wanted, held.to_vec())])];
    // The log has room for some more.
    let refused = (3..1000).find_map(|desired| {
        let more = vec![Change::SetDesired(vec![(AppId(1), desired, true, vec![])])];
        commit(&store, more).err()
    });
    assert!(matches!(refused, Some(StoreError::Full)), "{refused:?}");
    assert!(reserve.exists(), "it is not for that");
    commit(&store, want(false, &[])).unwrap();
    assert!(!reserve.exists());
    commit(&store, want(true, &[1])).unwrap();
    commit(&store, vec![Change::DeleteApps(vec![AppId(2)])]).unwrap();
    let told: Vec<String> = trouble
        .try_iter()
        .filter(|(bad, _)| *bad)
        .map(|(_, text)| text)
        .collect();
    assert!(
        told.iter()
            .any(|text| text.contains("the reserve beside the state file was given up")),
        "{told:?}"
    );
    std::fs::remove_file(&rest).unwrap();
    commit(&store, want(false, &[])).unwrap();
    assert!(reserve.exists(), "it is taken again");
}

#[test]
fn nothing_is_confirmed_on_a_file_system_that_became_read_only() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clmgr.db");
    let (send, trouble) = channel();
    let read_only = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&read_only);
    let options = Options {
        now: WallTime(0),
        spare: None,
        on_trouble: Box::new(move |bad, message| drop(send.send((bad, message)))),
        disk: Box::new(move || {
            // Every write works all the same, as it does when only the page cache takes it.
            let now = flag.load(Ordering::Relaxed);
            if now {
                Err(std::io::ErrorKind::ReadOnlyFilesystem.into())
            } else {
                Ok(0)
            }
        }),
    };
    let store = Store::open(&path, options).unwrap().store;
    commit(&store, vec![Change::PutApps(vec![row(1, &env(&[]))])]).unwrap();
    read_only.store(true, Ordering::Relaxed);
    let error = commit(&store, vec![Change::PutApps(vec![row(2, &env(&[]))])]).unwrap_err();
    assert!(error.to_string().contains("read-only"), "{error}");
    // Nothing else that works on paper ends the outage.
    wait(|reply| store.write(reply)).unwrap_err();
    wait(|reply| store.flush(reply)).unwrap_err();
    store.note(event(1, "app-1", EventKind::Started));
    wait(|reply| store.write(reply)).unwrap_err();
    assert!(trouble.recv_timeout(PATIENCE).unwrap().0);
    assert!(trouble.try_recv().is_err(), "told once, and not taken back");
    read_only.store(false, Ordering::Relaxed);
    assert!(!trouble.recv_timeout(PATIENCE).unwrap().0);
    drop(store);
    let opened = open(&path);
    assert_eq!(opened.state.apps.len(), 1, "what was refused is not there");
    assert_eq!(events(&opened.store, EventQuery::default()), [1]);
}

#[test]
fn a_state_on_a_read_only_disk_is_served_from_a_copy_and_nothing_is_confirmed() {
    let Some(disk) = Tiny::mount() else {
        eprintln!("skipped: not allowed to mount");
        return;
    };
    let path = disk.0.path().join("clmgr.db");
    let Opened { store, state, .. } = open(&path);
    assert!(state.apps.is_empty());
    commit(
        &store,
        vec![Change::PutApps(vec![row(1, &env(&[])), row(2, &env(&[]))])],
    )
    .unwrap();
    // As after a death: what is committed is in the log only.
    let (copy, log) = (
        std::fs::read(&path).unwrap(),
        std::fs::read(disk.0.path().join("clmgr.db-wal")).unwrap(),
    );
    drop(store);
    std::fs::write(&path, copy).unwrap();
    std::fs::write(disk.0.path().join("clmgr.db-wal"), log).unwrap();
    let remount = |flags| {
        let flags = flags | nix::mount::MsFlags::MS_REMOUNT;
        nix::mount::mount(None::<&str>, disk.0.path(), None::<&str>, flags, Some("size=8m")).unwrap();
    };
    remount(nix::mount::MsFlags::MS_RDONLY);
    let spare = tempfile::tempdir().unwrap();
    let folder = disk.0.path().to_owned();
    let options = Options {
        spare: Some(spare.path().to_owned()),
        disk: Box::new(move || crate::os::fsx::room(&folder)),
        ..super::options()
    };
    let opened = Store::open(&path, options).unwrap();
    assert!(opened.borrowed && !opened.salvaged);
    assert!(opened.notes[0].contains("is read-only"), "{:?}", opened.notes);
    assert_eq!(opened.state.apps.len(), 2);
    let refused = commit(&opened.store, vec![Change::DeleteApps(vec![AppId(1)])]).unwrap_err();
    assert!(refused.to_string().contains("read-only"), "{refused}");
    // What happens is known as long as it lives.
    opened.store.note(event(20_000, "app-1", EventKind::Started));
    assert_eq!(events(&opened.store, EventQuery::default()), [20_000]);
    drop(opened);
    remount(nix::mount::MsFlags::empty());
    let again = open(&path);
    assert!(!again.borrowed && again.state.apps.len() == 2);
}
