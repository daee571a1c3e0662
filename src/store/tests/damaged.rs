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
fn a_damaged_file_is_kept_aside_and_a_fresh_one_begun() {
    for (what, offset, length) in [
        ("header", 0_u64, 100_usize),
        ("schema page", 100, 3996),
        ("a page of apps", 3 * 4096, 20 * 4096),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clmgr.db");
        filled(&path);
        write_at(&path, &vec![0xa5; length], offset);
        let opened = open(&path);
        assert!(opened.state.apps.is_empty(), "{what}");
        assert!(opened.notes[0].contains("damaged"), "{what}: {:?}", opened.notes);
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
