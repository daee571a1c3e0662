use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::{commit, env, open, options, row};
use crate::store::{Change, Store, StoreError};

fn write_at(path: &Path, bytes: &[u8], offset: u64) {
    fs::OpenOptions::new()
        .write(true)
        .open(path)
        .unwrap()
        .write_all_at(bytes, offset)
        .unwrap();
}

fn filled(path: &Path) {
    let store = open(path).store;
    let rows = (1..=100).map(|id| row(id, &env(&[("A", "b")]))).collect();
    commit(&store, vec![Change::PutApps(rows)]).unwrap();
}

#[test]
fn a_damaged_file_is_kept_aside_and_its_backup_taken() {
    for (what, offset, length) in [
        ("header", 0_u64, 100_usize),
        ("schema page", 100, 3996),
        ("a page of apps", 3 * 4096, 20 * 4096),
        ("nothing left", 0, 0),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clmgr.db");
        filled(&path);
        let before = open(&path).state;
        if length == 0 {
            fs::write(&path, "").unwrap();
        } else {
            write_at(&path, &vec![0xa5; length], offset);
        }
        let opened = open(&path);
        assert!(opened.salvaged);
        assert_eq!(opened.state.apps, before.apps, "{what}");
        assert!(opened.state.first_run_id > before.first_run_id && opened.state.next_app_id > before.next_app_id);
        assert!(
            opened.notes[0].contains("its backup of 20"),
            "{what}: {:?}",
            opened.notes
        );
        assert!(folder.path().join("clmgr.db.damaged-1700000000000").exists(), "{what}");
        commit(
            &opened.store,
            vec![Change::DeleteApps(vec![crate::model::names::AppId(1)])],
        )
        .unwrap();
        drop(opened);
        let again = open(&path);
        assert!(!again.salvaged);
        assert_eq!(again.state.apps.len(), 99);
    }
}

#[test]
fn a_backup_follows_the_changes_and_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clmgr.db");
    filled(&path);
    let backup = folder.path().join("clmgr.db.bak");
    assert_eq!(fs::metadata(&backup).unwrap().permissions().mode() & 0o777, 0o600);
    let store = open(&path).store;
    commit(&store, vec![Change::DeleteApps(vec![crate::model::names::AppId(1)])]).unwrap();
    // Nobody asks: it is made when nothing has happened for a while.
    let made = || {
        let copy = folder.path().join("copy.db");
        fs::copy(&backup, &copy).unwrap();
        let count = rusqlite::Connection::open(&copy)
            .and_then(|copy| copy.query_row("SELECT count(*) FROM apps", [], |row| row.get::<_, i64>(0)));
        count.unwrap() == 99
    };
    let (_keep, quiet) = std::sync::mpsc::channel::<()>();
    let begun = (0..2000).any(|_| {
        let _nothing = quiet.recv_timeout(std::time::Duration::from_millis(10));
        made()
    });
    assert!(begun);
    drop(store);
}

#[test]
fn without_a_backup_a_fresh_one_is_begun() {
    for (what, offset, length) in [
        ("header", 0_u64, 100_usize),
        ("schema page", 100, 3996),
        ("a page of apps", 3 * 4096, 20 * 4096),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clmgr.db");
        filled(&path);
        fs::write(folder.path().join("clmgr.db.bak"), "damaged, too").unwrap();
        write_at(&path, &vec![0xa5; length], offset);
        let opened = open(&path);
        assert!(opened.state.apps.is_empty() && opened.salvaged, "{what}");
        assert!(
            opened.notes[0].contains("there is no backup"),
            "{what}: {:?}",
            opened.notes
        );
        let aside = folder.path().join("clmgr.db.damaged-1700000000000");
        assert!(fs::metadata(aside).unwrap().len() > 4096, "{what}");
        commit(&opened.store, vec![Change::PutApps(vec![row(1, &env(&[]))])]).unwrap();
    }
}

#[test]
fn text_in_place_of_a_database_is_kept_aside() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clmgr.db");
    fs::write(&path, "this is no database at all\n".repeat(100)).unwrap();
    fs::write(folder.path().join("clmgr.db-wal"), "nor is this a log").unwrap();
    let opened = open(&path);
    assert!(
        opened.notes[0].contains("clmgr.db.damaged-1700000000000"),
        "{:?}",
        opened.notes
    );
    assert!(folder.path().join("clmgr.db.damaged-1700000000000-wal").exists());
}

#[test]
fn a_newer_schema_is_refused_and_left_untouched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clmgr.db");
    filled(&path);
    {
        let newer = rusqlite::Connection::open(&path).unwrap();
        newer
            .execute_batch(
                "UPDATE meta SET value = '9.8.7' WHERE key = 'written_by';
                 PRAGMA user_version = 999;",
            )
            .unwrap();
        // Killed before it could fold the log in.
        newer
            .set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
            .unwrap();
    }
    let log = folder.path().join("clmgr.db-wal");
    let before = (fs::read(&path).unwrap(), fs::read(&log).unwrap());
    assert!(!before.1.is_empty());
    let error = Store::open(&path, options()).unwrap_err();
    assert!(
        matches!(
            error,
            StoreError::Newer {
                found: 999,
                known: 1,
                ..
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("9.8.7"), "{error}");
    assert!(
        (fs::read(&path).unwrap(), fs::read(&log).unwrap()) == before,
        "it was changed"
    );
}

#[test]
fn a_database_of_another_program_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clmgr.db");
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch("CREATE TABLE recipes (name TEXT)")
        .unwrap();
    assert!(matches!(Store::open(&path, options()), Err(StoreError::Foreign { .. })));
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = Store::open(&folder.path().join("no/clmgr.db"), options()).unwrap_err();
    assert!(error.to_string().contains("no/clmgr.db"), "{error}");
    let error = Store::open(folder.path(), options()).unwrap_err();
    assert!(
        matches!(&error, StoreError::Create { source, .. } if source.kind() == std::io::ErrorKind::IsADirectory),
        "{error}"
    );
}
