//! What was acknowledged is there after `kill -9`.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use super::{commit, env, event, open, row};
use crate::model::event::EventKind;
use crate::store::Change;

const FOLDER: &str = "CLMGR_STORE_TEST_FOLDER";

/// The child of the test below; alone it does nothing.
#[test]
fn child() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let store = open(&std::path::Path::new(&folder).join("clmgr.db")).store;
    let base = env(&[("A", "1")]);
    for id in 1..10_000 {
        store.note(event(u64::from(id), "a", EventKind::Started));
        commit(&store, vec![Change::PutApps(vec![row(id, &base)])]).unwrap();
        println!("\nack {id}");
        std::io::stdout().flush().unwrap();
    }
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::tests::crash::child", "--nocapture"])
        .env(FOLDER, folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let ack = |line: &str| line.strip_prefix("ack ").and_then(|id| id.parse::<usize>().ok());
    let mut acknowledged = 0;
    while acknowledged < 40 {
        acknowledged = ack(&lines.next().unwrap().unwrap()).unwrap_or(acknowledged);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    for line in lines {
        acknowledged = ack(&line.unwrap()).unwrap_or(acknowledged);
    }
    let opened = open(&folder.path().join("clmgr.db"));
    assert!(opened.notes.is_empty(), "{:?}", opened.notes);
    let found = opened.state.apps.len();
    // The one that was under way may be in it, too.
    assert!(
        (acknowledged..=acknowledged + 1).contains(&found),
        "{found} of {acknowledged}"
    );
    assert!(
        opened.state.last_event_seq > acknowledged as u64 + 4096,
        "unwritten numbers are not used again"
    );
    assert!(opened.state.first_run_id.0 > 1_000_000);
}
