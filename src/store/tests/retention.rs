use super::{commit, count, crash, env, event, events, open, row, run, wait};
use std::collections::VecDeque;

use crate::model::event::EventKind;
use crate::model::names::{AppId, RunId};
use crate::store::note::{MAX_WAITING_EVENTS, thin_out};
use crate::store::{Change, EventQuery, Note, RuntimeRow};

#[test]
fn events_and_crashes_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clmgr.db");
    let store = open(&path).store;
    let base = env(&[]);
    commit(&store, vec![Change::PutApps(vec![row(1, &base), row(2, &base)])]).unwrap();
    for seq in 1..=10_700 {
        store.note(event(seq, "app-1", EventKind::Started));
        if seq % 1000 == 0 {
            wait(|reply| store.flush(reply)).unwrap();
        }
    }
    let kept = events(&store, EventQuery::default());
    assert!((9_000..=10_000).contains(&kept.len()), "{}", kept.len());
    assert_eq!(kept.last(), Some(&10_700));
    for pid in 1..=50 {
        store.note(crash(1, pid));
        store.note(crash(2, pid));
        wait(|reply| store.flush(reply)).unwrap();
    }
    let crashes = wait(|reply| store.crashes(AppId(1), 100, reply)).unwrap();
    let pids: Vec<i32> = crashes.iter().map(|crash| crash.pid).collect();
    assert_eq!(pids, (31..=50).rev().collect::<Vec<_>>());
    commit(&store, vec![Change::DeleteApps(vec![AppId(1)])]).unwrap();
    assert_eq!(count(&store, "SELECT count(*) FROM crashes"), 20);
    let log = folder.path().join("clmgr.db-wal");
    assert!(std::fs::metadata(&log).unwrap().len() < 8 << 20);
    store.shut_down();
    assert!(!log.exists(), "a clean end folds the log in");
}

/// Kept where they are few; where apps crash all the time and say much, the newest.
#[test]
fn last_words_are_bounded_over_all_apps() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("clmgr.db")).store;
    let base = env(&[]);
    let apps = 1..=30;
    let rows = apps.clone().map(|app| row(app, &base)).collect();
    commit(&store, vec![Change::PutApps(rows)]).unwrap();
    let words = |size: usize| vec!["x".repeat(size)];
    let mut seq = 0;
    for pid in 1..=20 {
        for app in apps.clone() {
            let Note::Crash { app, mut crash } = crash(app, pid) else {
                unreachable!()
            };
            crash.stderr = words(64 << 10);
            store.note(Note::Crash { app, crash });
            seq += 1;
            let Note::Event(mut exit) = event(seq, "app-1", EventKind::Exited) else {
                unreachable!()
            };
            exit.stderr = words(16 << 10);
            store.note(Note::Event(exit));
        }
        wait(|reply| store.flush(reply)).unwrap();
    }
    let crashes = count(&store, "SELECT sum(length(stderr)) FROM crashes");
    let all = count(&store, "SELECT sum(length(json)) FROM events");
    // It is looked after a megabyte, or a transaction if that is more.
    let step = 30 * (81 << 10);
    assert!((8 << 20..(16 << 20) + step).contains(&crashes), "{crashes}");
    assert!((4 << 20..(8 << 20) + step).contains(&all), "{all}");
    assert_eq!(
        count(&store, "SELECT count(*) FROM events"),
        600,
        "no event is lost for its words"
    );
    let newest = wait(|reply| store.crashes(AppId(30), 1, reply)).unwrap();
    assert_eq!((newest[0].pid, newest[0].stderr[0].len()), (20, 64 << 10));
    let found = wait(|reply| store.events(EventQuery::default(), reply)).unwrap();
    let said = |event: &crate::model::event::Event| event.stderr.len();
    assert_eq!(
        found.iter().filter(|event| event.seq == 600).map(said).sum::<usize>(),
        1
    );
    assert_eq!(found.iter().filter(|event| event.seq == 1).map(said).sum::<usize>(), 0);
}

#[test]
fn crashes_that_wait_for_a_disk_are_bounded_in_bytes() {
    let mut notes: VecDeque<Note> = (1..=100)
        .map(|app| {
            let Note::Crash { app, mut crash } = crash(app, 1) else {
                unreachable!()
            };
            crash.stderr = vec!["x".repeat(64 << 10)];
            Note::Crash { app, crash }
        })
        .collect();
    assert_eq!(thin_out(&mut notes, |note: &Note| Some(note)), 0);
    assert_eq!(notes.len(), 32);
    assert!(matches!(notes.back(), Some(Note::Crash { app: AppId(100), .. })));
}

#[test]
fn waiting_notes_are_thinned_out_without_changing_what_they_say() {
    let runtime = |json: &str| {
        Note::Runtime(RuntimeRow {
            app: AppId(1),
            boot: "b".into(),
            json: json.into(),
        })
    };
    let mut notes: VecDeque<Note> = VecDeque::new();
    notes.push_back(Note::RunEnded { run: RunId(1) });
    notes.push_back(runtime("old"));
    notes.push_back(Note::RunStarted(run(2, 1)));
    notes.push_back(Note::RunStarted(run(3, 1)));
    notes.push_back(Note::RunEnded { run: RunId(2) });
    notes.push_back(runtime("new"));
    assert_eq!(thin_out(&mut notes, |note: &Note| Some(note)), 0);
    let left: Vec<String> = notes.iter().map(|note| format!("{note:?}")).collect();
    assert_eq!(left.len(), 3, "{left:?}");
    assert!(
        left[0].contains("RunEnded") && left[1].contains("RunId(3)") && left[2].contains("new"),
        "{left:?}"
    );

    let mut many: VecDeque<Note> = (1..=MAX_WAITING_EVENTS as u64 + 5)
        .map(|seq| event(seq, "a", EventKind::Started))
        .collect();
    assert_eq!(thin_out(&mut many, |note: &Note| Some(note)), 5);
    assert!(matches!(&many[0], Note::Event(event) if event.seq == 6));
}
