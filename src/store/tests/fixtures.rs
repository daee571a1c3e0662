//! Files of every schema there was, and of those to come: `tests/fixtures/state/<schema>.db` was written by a release
//! of that schema. A new migration adds a file, made by the version before it:
//!
//! three apps, `api` (4 instances wanted, slot 1 held, PORT=3000), `worker` (stopped) and `bad` (crashed once with
//! code 3), `clmgr kill`, and `VACUUM`.

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::{commit, count, env, events, open, options, row, wait};
use crate::model::exit::ExitStatus;
use crate::model::names::AppId;
use crate::store::migrate::{MIGRATIONS, newest, oldest_key};
use crate::store::{Change, EventQuery, Opened, Store, StoreError};

fn fixture(schema: i64, folder: &Path) -> PathBuf {
    let name = format!("tests/fixtures/state/{schema:04}.db");
    let path = folder.join("clmgr.db");
    let bytes = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(&name)).expect(&name);
    fs::write(&path, bytes).unwrap();
    path
}

/// Everything that the release has written is understood.
#[track_caller]
fn is_understood(opened: &Opened) {
    let apps = &opened.state.apps;
    let summary: Vec<_> = apps
        .iter()
        .map(|app| (app.spec.name.as_str(), app.desired, app.wanted, &app.held[..]))
        .collect();
    assert_eq!(
        summary[..3],
        [
            ("api", 4, true, &[1][..]),
            ("worker", 1, false, &[]),
            ("bad", 1, true, &[])
        ]
    );
    assert_eq!(apps[0].spec.env["PORT"], "3000".into());
    assert_eq!(apps[0].spec.env_base["LANG"], "C.UTF-8".into());
    assert_eq!(opened.state.runtime.len(), 3);
    assert!(opened.state.next_app_id > AppId(3));
    assert!(opened.notes.is_empty(), "{:?}", opened.notes);
    let crashes = wait(|reply| opened.store.crashes(AppId(3), 5, reply)).unwrap();
    assert_eq!((crashes.len(), crashes[0].exit.status), (1, ExitStatus::Code(3)));
    assert_eq!(crashes[0].stderr, ["no such table"]);
    assert!(events(&opened.store, EventQuery::default()).len() > 20);
}

/// It can be written, closed and opened again.
#[track_caller]
fn is_usable(path: &Path) {
    let opened = open(path);
    is_understood(&opened);
    commit(&opened.store, vec![Change::PutApps(vec![row(9, &env(&[("A", "b")]))])]).unwrap();
    commit(
        &opened.store,
        vec![Change::SetDesired(vec![(AppId(9), 5, false, vec![2])])],
    )
    .unwrap();
    opened.store.shut_down();
    let again = open(path);
    is_understood(&again);
    let added = again.state.apps.iter().find(|app| app.id == AppId(9)).unwrap();
    assert_eq!((added.desired, added.wanted, &added.held[..]), (5, false, &[2][..]));
}

/// What a version that is `ahead` schemas newer leaves behind.
fn future(folder: &Path, ahead: i64, oldest_reader: i64) -> PathBuf {
    let path = fixture(newest(), folder);
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch(&format!(
            "CREATE TABLE later (id INTEGER PRIMARY KEY, word TEXT NOT NULL) STRICT;
             INSERT INTO later VALUES (1, 'kept');
             ALTER TABLE apps ADD COLUMN later TEXT NOT NULL DEFAULT 'none';
             UPDATE apps SET later = 'some' WHERE id = 1;
             INSERT INTO meta VALUES ('{}', '{oldest_reader}');
             UPDATE meta SET value = '9.9.9' WHERE key = 'written_by';
             PRAGMA user_version = {};",
            oldest_key(newest() + ahead),
            newest() + ahead
        ))
        .unwrap();
    path
}

#[test]
fn files_of_every_schema_are_read_and_written() {
    for schema in 1..=newest() {
        let folder = tempfile::tempdir().unwrap();
        is_usable(&fixture(schema, folder.path()));
    }
}

#[test]
fn every_migration_leaves_a_way_back_by_one_version() {
    for (number, migration) in (1_i64..).zip(MIGRATIONS) {
        assert!(number == 1 || migration.oldest_reader < number, "{number}");
    }
}

#[test]
fn one_step_back_reads_and_writes_and_damages_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = future(folder.path(), 1, newest());
    is_usable(&path);
    let opened = open(&path);
    assert_eq!(opened.schema.number, newest() + 1);
    assert_eq!(
        count(&opened.store, "SELECT user_version FROM pragma_user_version"),
        newest() + 1
    );
    assert_eq!(
        count(&opened.store, "SELECT count(*) FROM later WHERE word = 'kept'"),
        1
    );
    assert_eq!(
        count(
            &opened.store,
            "SELECT count(*) FROM apps WHERE id = 1 AND later = 'some'"
        ),
        1
    );
    let said = "SELECT count(*) FROM meta WHERE key = 'written_by' AND value = '9.9.9'";
    assert_eq!(count(&opened.store, said), 1);
}

#[test]
fn a_file_that_this_build_is_too_old_for_is_refused_untouched() {
    let folder = tempfile::tempdir().unwrap();
    let path = future(folder.path(), 2, newest() + 1);
    let before = fs::read(&path).unwrap();
    let error = Store::open(&path, options()).unwrap_err();
    assert!(
        matches!(error, StoreError::Newer { found, .. } if found == newest() + 2),
        "{error}"
    );
    assert!(error.to_string().contains("Use clmgr 9.9.9 or newer"), "{error}");
    assert!(fs::read(&path).unwrap() == before, "it was changed");
}
