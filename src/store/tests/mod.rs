//! The store against real files.

mod crash;
#[expect(clippy::disallowed_methods, reason = "writes the files of the test")]
mod damaged;
#[expect(clippy::disallowed_methods, reason = "writes the files of the test")]
mod fixtures;
#[expect(clippy::disallowed_methods, reason = "writes the files of the test")]
mod full;
mod retention;
mod roundtrip;

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use crate::api::status::Crash;
use crate::model::duration::Millis;
use crate::model::env::EnvMap;
use crate::model::event::{Event, EventKind};
use crate::model::exit::{Exit, ExitStatus};
use crate::model::names::{AppId, RunId};
use crate::model::process::ProcessId;
use crate::model::spec::AppSpec;
use crate::model::time::WallTime;
use crate::store::{AppRow, Change, EventQuery, Note, Opened, Options, Reply, RunRow, Store, StoreError};

const PATIENCE: Duration = Duration::from_secs(20);

fn options() -> Options {
    Options {
        now: WallTime(1_700_000_000_000),
        spare: None,
        on_trouble: Box::new(|_, _| {}),
        disk: Box::new(|| Ok(0)),
    }
}

fn open(path: &Path) -> Opened {
    Store::open(path, options()).unwrap()
}

fn wait<T: Send + 'static>(ask: impl FnOnce(Reply<T>)) -> Result<T, StoreError> {
    let (send, receive) = channel();
    ask(Box::new(move |result| drop(send.send(result))));
    receive.recv_timeout(PATIENCE).unwrap()
}

fn commit(store: &Store, changes: Vec<Change>) -> Result<(), StoreError> {
    wait(|reply| store.commit(changes, reply))
}

fn events(store: &Store, query: EventQuery) -> Vec<u64> {
    let events = wait(|reply| store.events(query, reply)).unwrap();
    events.into_iter().map(|event| event.seq).collect()
}

fn count(store: &Store, sql: &'static str) -> i64 {
    let (send, receive) = channel();
    store.inspect(move |connection| {
        send.send(connection.query_row(sql, [], |row| row.get(0)).unwrap())
            .unwrap();
    });
    receive.recv_timeout(PATIENCE).unwrap()
}

fn env(pairs: &[(&str, &str)]) -> Arc<EnvMap> {
    Arc::new(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).into())).collect())
}

fn spec(name: &str, env_base: Arc<EnvMap>) -> AppSpec {
    AppSpec {
        instance_var: "N".into(),
        env_base,
        listen_timeout: Millis(1),
        ..AppSpec::new(name.parse().unwrap(), vec!["/bin/true".into()], "/".into())
    }
}

fn row(id: u32, env_base: &Arc<EnvMap>) -> AppRow {
    AppRow {
        id: AppId(id),
        spec: Arc::new(spec(&format!("app-{id}"), Arc::clone(env_base))),
        desired: 2,
        held: vec![],
        wanted: true,
        created_at: WallTime(5),
    }
}

fn event(seq: u64, app: &str, kind: EventKind) -> Note {
    Note::Event(Box::new(Event {
        seq,
        at: WallTime(i64::try_from(seq).unwrap() * 10),
        kind,
        app: Some(app.parse().unwrap()),
        namespace: None,
        slot: Some(0),
        pid: None,
        message: "x".repeat(200),
        exit: None,
        stderr: vec![],
    }))
}

fn crash(app: u32, pid: i32) -> Note {
    Note::Crash {
        app: AppId(app),
        crash: Box::new(Crash {
            at: WallTime(1),
            slot: 0,
            pid,
            exit: Exit::bare(ExitStatus::Code(1)),
            uptime_ms: 3,
            stderr: vec!["boom".into()],
        }),
    }
}

fn run(run: u64, app: u32) -> RunRow {
    RunRow {
        run: RunId(run),
        app: AppId(app),
        slot: 1,
        process: ProcessId {
            pid: 77,
            start_ticks: 88,
            boot: "boot".into(),
        },
        started_at: WallTime(9),
    }
}
