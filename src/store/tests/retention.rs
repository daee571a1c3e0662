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
