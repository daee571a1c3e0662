use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use super::{commit, count, crash, env, event, events, open, options, row, run, wait};
use crate::model::event::EventKind;
use crate::model::names::{AppId, RunId};
use crate::model::time::WallTime;
use crate::store::{Change, EventQuery, Note, RuntimeRow, Store, StoreError};

#[test]
fn everything_comes_back_and_equal_environments_are_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clmgr.db");
    let opened = open(&path);
    assert!(opened.notes.is_empty());
    assert_eq!(
        (
            opened.state.next_app_id,
            opened.state.first_run_id,
            opened.state.last_event_seq
        ),
        (AppId(1), RunId(1), 0)
    );
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let store = opened.store;
    let (one, same, other) = (env(&[("A", "1")]), env(&[("A", "1")]), env(&[("A", "2")]));
    let rows = vec![row(1, &one), row(2, &same), row(3, &other)];
    commit(&store, vec![Change::PutApps(rows.clone())]).unwrap();
    let runtime = |app, json: &str| RuntimeRow {
        app: AppId(app),
        boot: "boot".into(),
        json: json.into(),
    };
    store.note(Note::Runtime(runtime(1, "old")));
    store.note(Note::Runtime(runtime(1, "new")));
    store.note(Note::Runtime(runtime(99, "of no app")));
    store.note(Note::RunStarted(run(1, 1)));
    store.note(Note::RunStarted(run(2, 1)));
    store.note(Note::RunEnded { run: RunId(1) });
    store.note(event(1, "app-1", EventKind::Started));
    store.note(crash(1, 42));
    wait(|reply| store.flush(reply)).unwrap();
    assert_eq!(count(&store, "SELECT count(*) FROM environments"), 2);
    let crashes = wait(|reply| store.crashes(AppId(1), 9, reply)).unwrap();
    assert_eq!((crashes.len(), crashes[0].pid), (1, 42));
    store.shut_down();
    assert!(matches!(commit(&store, vec![]), Err(StoreError::Closed)));

    let again = open(&path);
    assert_eq!(again.state.apps, rows);
    assert_eq!(again.state.runtime, [runtime(1, "new")]);
    assert_eq!(again.state.runs, [run(2, 1)]);
    assert_eq!(again.state.last_event_seq, 1, "a clean end leaves no gap");
    let base = |at: usize| &again.state.apps[at].spec.env_base;
    assert!(Arc::ptr_eq(base(0), base(1)));
    assert!(!Arc::ptr_eq(base(0), base(2)));
}

#[test]
fn environments_nobody_uses_go_away() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("clmgr.db")).store;
    let (one, two) = (env(&[("A", "1")]), env(&[("A", "2")]));
    commit(&store, vec![Change::PutApps(vec![row(1, &one), row(2, &one)])]).unwrap();
    commit(&store, vec![Change::PutApps(vec![row(2, &two)])]).unwrap();
    assert_eq!(count(&store, "SELECT count(*) FROM environments"), 2);
    commit(&store, vec![Change::DeleteApps(vec![AppId(2), AppId(77)])]).unwrap();
    assert_eq!(count(&store, "SELECT count(*) FROM environments"), 1);
    commit(&store, vec![Change::PutApps(vec![row(1, &two)])]).unwrap();
    assert_eq!(count(&store, "SELECT count(*) FROM environments"), 1);
}

#[test]
fn a_commit_is_all_or_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clmgr.db");
    let store = open(&path).store;
    let base = env(&[]);
    commit(&store, vec![Change::PutApps(vec![row(1, &base)])]).unwrap();
    let refused = commit(
        &store,
        vec![
            Change::PutApps(vec![row(2, &base)]),
            Change::SetDesired(vec![(AppId(1), 7, false, vec![2]), (AppId(9), 1, true, vec![])]),
        ],
    );
    assert!(matches!(refused, Err(StoreError::UnknownApp(AppId(9)))), "{refused:?}");
    // Two apps of one name.
    let mut double = row(3, &base);
    double.spec = row(1, &base).spec;
    assert!(commit(&store, vec![Change::PutApps(vec![double])]).is_err());
    commit(&store, vec![Change::SetDesired(vec![(AppId(1), 5, false, vec![1, 3])])]).unwrap();
    drop(store);
    let state = open(&path).state;
    assert_eq!(state.apps.len(), 1);
    assert_eq!((state.apps[0].desired, state.apps[0].wanted), (5, false));
}

#[test]
fn ids_are_never_used_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clmgr.db");
    let base = env(&[]);
    let opened = open(&path);
    commit(&opened.store, vec![Change::PutApps(vec![row(7, &base)])]).unwrap();
    commit(&opened.store, vec![Change::DeleteApps(vec![AppId(7)])]).unwrap();
    // Near the end of its block: the next one is reserved with it.
    opened.store.note(Note::RunStarted(run(900_000, 7)));
    opened.store.note(event(3, "a", EventKind::Started));
    drop(opened);
    let opened = open(&path);
    assert_eq!(opened.state.next_app_id, AppId(8));
    assert!(opened.state.first_run_id.0 > 1_500_000, "{}", opened.state.first_run_id);
    // A run of a deleted app is still known.
    assert_eq!(opened.state.runs, [run(900_000, 7)]);
    commit(&opened.store, vec![]).unwrap();
    let first = opened.state.first_run_id;
    drop(opened);
    assert!(open(&path).state.first_run_id.0 >= first.0 + 1_000_000);
}

#[test]
fn events_are_found_by_every_key() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("clmgr.db")).store;
    for seq in 1..=6 {
        let (app, kind) = if seq % 2 == 0 {
            ("even", EventKind::Exited)
        } else {
            ("odd", EventKind::Started)
        };
        store.note(event(seq, app, kind));
    }
    let q = EventQuery::default;
    assert_eq!(events(&store, q()), [1, 2, 3, 4, 5, 6]);
    assert_eq!(
        events(
            &store,
            EventQuery {
                after_seq: Some(4),
                ..q()
            }
        ),
        [5, 6]
    );
    assert_eq!(
        events(
            &store,
            EventQuery {
                since: Some(WallTime(50)),
                ..q()
            }
        ),
        [5, 6]
    );
    let even = EventQuery {
        apps: vec!["even".parse().unwrap()],
        newest_first: true,
        limit: Some(2),
        ..q()
    };
    assert_eq!(events(&store, even), [6, 4]);
    let started = EventQuery {
        kinds: vec![EventKind::Started],
        limit: Some(2),
        ..q()
    };
    assert_eq!(events(&store, started), [1, 3]);
    let none = EventQuery {
        kinds: vec![EventKind::Started],
        apps: vec!["even".parse().unwrap()],
        ..q()
    };
    assert!(events(&store, none).is_empty());
}

#[test]
fn an_app_that_cannot_be_read_is_kept_until_it_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clmgr.db");
    let base = env(&[]);
    let store = open(&path).store;
    commit(&store, vec![Change::PutApps(vec![row(1, &base), row(2, &base)])]).unwrap();
    store.inspect(|c| {
        c.execute_batch("UPDATE apps SET spec = '{\"from\":\"later\"}' WHERE id = 1")
            .unwrap();
    });
    drop(store);
    let opened = open(&path);
    assert_eq!(opened.state.apps.len(), 1);
    assert!(opened.notes[0].contains("app-1"), "{:?}", opened.notes);
    assert_eq!(opened.state.next_app_id, AppId(3));
    let mut successor = row(3, &base);
    successor.spec = row(1, &base).spec;
    commit(&opened.store, vec![Change::PutApps(vec![successor])]).unwrap();
    drop(opened);
    let opened = open(&path);
    assert!(opened.notes.is_empty());
    assert_eq!(opened.state.apps.len(), 2);
}

#[test]
fn two_cannot_have_it_open() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clmgr.db");
    let _first = open(&path);
    let error = Store::open(&path, options()).unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }), "{error:?}");
}

#[test]
fn the_last_handle_may_go_inside_a_reply() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("clmgr.db")).store;
    let (send, receive) = std::sync::mpsc::channel();
    let (go, gone) = std::sync::mpsc::channel::<()>();
    let last = store.clone();
    store.commit(
        vec![],
        Box::new(move |_| {
            let _dropped = gone.recv();
            drop(last);
            send.send(()).unwrap();
        }),
    );
    // Not a join: this handle is not the last one.
    drop(store);
    drop(go);
    receive.recv_timeout(super::PATIENCE).unwrap();
}

#[test]
fn a_reply_that_panics_does_not_leave_others_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clmgr.db");
    let store = open(&path).store;
    commit(&store, vec![Change::PutApps(vec![row(1, &env(&[]))])]).unwrap();
    let (send, receive) = std::sync::mpsc::channel::<()>();
    store.flush(Box::new(move |_| {
        let _dropped_by_the_panic = send;
        panic!("a reply may not do this");
    }));
    assert!(receive.recv_timeout(super::PATIENCE).is_err());
    store.shut_down();
    assert!(matches!(commit(&store, vec![]), Err(StoreError::Closed)));
    assert_eq!(open(&path).state.apps.len(), 1);
}

#[test]
fn what_is_handed_over_is_all_there_for_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clmgr.db");
    for round in 1..=5_u64 {
        let opened = open(&path);
        assert_eq!(opened.state.apps.len() as u64, round - 1);
        assert_eq!(opened.state.last_event_seq, round - 1, "numbers go on without a gap");
        let id = u32::try_from(round).unwrap();
        commit(&opened.store, vec![Change::PutApps(vec![row(id, &env(&[("A", "b")]))])]).unwrap();
        opened.store.note(event(round, "app-1", EventKind::Started));
        opened.store.hand_over();
        let late = commit(&opened.store, vec![]);
        assert!(matches!(late, Err(StoreError::Closed)), "{late:?}");
    }
    assert_eq!(open(&path).state.apps.len(), 5);
}
