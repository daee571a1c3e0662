//! A status with one of everything, for tests.

use crate::api::status::{AppDescription, AppStatus, Crash, InstanceStatus, StatusReply};
use crate::model::event::{Event, EventKind};
use crate::model::exit::{Exit, ExitStatus};
use crate::model::names::AppId;
use crate::model::state::State;
use crate::model::time::WallTime;

fn instance(slot: u32, pid: Option<i32>, state: State) -> InstanceStatus {
    InstanceStatus {
        slot,
        pid,
        state,
        restarts: slot,
        uptime_ms: pid.map(|_| 7_980_000),
        cpu_percent: pid.map(|_| 12.34),
        memory_bytes: pid.map(|_| 48_123_904),
        next_start_ms: None,
        last_exit: None,
        health: None,
        status_text: None,
        stored_descriptors: 0,
    }
}

fn app(id: u32, name: &str, namespace: &str, state: State, instances: Vec<InstanceStatus>) -> AppStatus {
    AppStatus {
        id: AppId(id),
        name: name.parse().unwrap(),
        namespace: namespace.parse().unwrap(),
        state,
        desired: u32::try_from(instances.len()).unwrap(),
        listeners: Vec::new(),
        instances,
        progress: None,
    }
}

pub(crate) fn status() -> StatusReply {
    let mut broken = instance(0, None, State::Errored);
    broken.next_start_ms = Some(41_500);
    broken.restarts = 5;
    broken.last_exit = Some(Exit::bare(ExitStatus::Code(1)));
    StatusReply {
        apps: vec![
            app(
                1,
                "api",
                "default",
                State::Online,
                vec![
                    instance(0, Some(4001), State::Online),
                    instance(1, Some(4002), State::Starting),
                ],
            ),
            app(2, "broken", "default", State::Errored, vec![broken]),
            app(
                13,
                "worker",
                "jobs",
                State::Stopped,
                vec![instance(0, Some(4003), State::Stopping)],
            ),
        ],
    }
}

pub(crate) fn event() -> Event {
    Event {
        seq: 7,
        at: WallTime(1_795_250_000_000),
        kind: EventKind::CircuitOpen,
        app: Some("broken".parse().unwrap()),
        namespace: None,
        slot: Some(0),
        pid: None,
        message: "5 crashes in 30s; next attempt in 1m".into(),
        exit: None,
        stderr: vec!["DATABASE_URL is not set".into(), "\u{1b}[31mbye".into()],
    }
}

pub(crate) fn description() -> AppDescription {
    let spec = serde_json::json!({
        "name": "broken", "argv": ["/bin/sh", "-c", "echo no; exit 1"], "cwd": "/srv/broken", "instances": 1,
        "instance_var": "NODE_APP_INSTANCE", "env": { "A": "********" }, "require": { "env": ["DATABASE_URL"] },
        "restart": serde_json::to_value(crate::model::spec::RestartSpec::default()).unwrap(),
        "ready": "spawn", "listen_timeout": 30000,
        "stop": serde_json::to_value(crate::model::spec::StopSpec::default()).unwrap(),
        "rollout": serde_json::to_value(crate::model::spec::RolloutSpec::default()).unwrap(),
        "max_memory_restart": 209_715_200,
        "source": "/srv/broken/ecosystem.toml",
    });
    AppDescription {
        status: status().apps.remove(1),
        spec: serde_json::from_value(spec).unwrap(),
        reason: Some("the circuit is open: 5 crashes in 30s".into()),
        crashes: vec![Crash {
            at: WallTime(1_795_250_000_000),
            slot: 0,
            pid: 3999,
            exit: Exit::bare(ExitStatus::Code(1)),
            uptime_ms: 120,
            stderr: vec!["DATABASE_URL is not set".into()],
        }],
        events: vec![event()],
        logs: Vec::new(),
        created: None,
        metrics: Vec::new(),
        actions: Vec::new(),
    }
}
