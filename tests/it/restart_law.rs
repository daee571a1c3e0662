//! Which exits lead to a new start, and when.

use serde_json::Value;

use crate::harness::World;

fn app(world: &World, text: &str) {
    world.file("ecosystem.toml", &format!("[[apps]]\nname = \"a\"\n{text}\n"));
}

fn instance(world: &World) -> Value {
    world.instances("a")[0].clone()
}

/// Until the running process counts as stable, which the daemon says nothing about.
fn stable(world: &World) {
    world.until("a stable life", || {
        instance(world)["uptime_ms"].as_u64().is_some_and(|uptime| uptime > 400)
    });
}

#[test]
fn a_stable_app_that_is_killed_is_back_at_once() {
    let world = World::new();
    app(&world, "cmd = \"sleep 1000\"\nmin_uptime = \"300ms\"");
    world.run(&["start"]).ok();
    for round in 1..=3 {
        stable(&world);
        let before = world.pids("a")[0];
        assert!(world.kill9(before));
        world.until("its replacement", || {
            let now = world.pids("a")[0];
            now != 0 && now != before
        });
        assert_eq!(instance(&world)["restarts"], round);
        assert_eq!(instance(&world)["last_exit"]["status"]["signal"], 9);
    }
    assert_eq!(world.count_events("backoff", "a"), 0, "no wait after a stable life");
    assert_eq!(world.count_events("circuit_open", "a"), 0);
    assert_eq!(world.count_events("started", "a"), 4);
    let exits: Vec<Value> = world
        .events()
        .into_iter()
        .filter(|event| event["kind"] == "exited")
        .collect();
    assert_eq!(exits.len(), 3);
    assert!(
        exits.iter().all(|event| event["exit"]["status"]["signal"] == 9),
        "{exits:?}"
    );
    world.run(&["reset", "a"]).ok();
    assert_eq!(instance(&world)["restarts"], 0);
}

#[test]
fn exits_that_mean_done_are_final() {
    let world = World::new();
    world.file(
        "ecosystem.toml",
        r#"
[[apps]]
name = "codes"
cmd = ["sh", "-c", "exit 7"]
stop_exit_codes = [0, 7]

[[apps]]
name = "once"
cmd = ["sh", "-c", "exit 1"]
autorestart = false

[[apps]]
name = "good"
cmd = ["sh", "-c", "exit 0"]
restart = "on-failure"

[[apps]]
name = "bad"
cmd = ["sh", "-c", "exit 3"]
restart = "on-failure"
backoff = { first = "10m", max = "10m" }
"#,
    );
    let _whatever = world.run(&["start"]);
    world.until("three ends and one wait", || {
        let state = |name: &str| world.states(name).first().cloned().unwrap_or_default();
        ["codes", "once", "good"].iter().all(|name| state(name) == "completed") && state("bad") == "backoff"
    });
    for (name, starts) in [("codes", 1), ("once", 1), ("good", 1), ("bad", 1)] {
        assert_eq!(world.count_events("started", name), starts, "{name}");
    }
    world.run(&["start", "once"]).ok();
    world.until("a second life", || {
        world.count_events("started", "once") == 2 && world.states("once") == ["completed"]
    });
}

#[test]
fn a_backoff_shows_its_next_start_and_reset_ends_it() {
    let world = World::new();
    app(
        &world,
        "cmd = [\"sh\", \"-c\", \"echo because >&2; test -e ok && exec sleep 1000; exit 9\"]\nbackoff = { first = \"10m\", max = \"10m\", jitter = 0 }",
    );
    let _whatever = world.run(&["start"]);
    world.until("a wait", || world.states("a") == ["backoff"]);
    let waiting = instance(&world);
    assert!(
        (1..=600_000).contains(&waiting["next_start_ms"].as_u64().unwrap()),
        "{waiting}"
    );
    assert_eq!(waiting["last_exit"]["status"]["code"], 9);
    assert!(waiting["pid"].is_null());
    let described = world.describe("a");
    assert!(
        described["reason"]
            .as_str()
            .is_some_and(|reason| reason.contains("exit code 9")),
        "{described}"
    );
    assert_eq!(described["crashes"][0]["stderr"], serde_json::json!(["because"]));
    world.run(&["stop", "a"]).ok();
    assert_eq!(world.states("a"), ["stopped"]);
    assert_eq!(world.count_events("started", "a"), 1);
    world.file("ok", "");
    world.run(&["restart", "a"]).ok();
    world.until("it runs", || world.states("a") == ["online"]);
}

#[test]
fn one_bad_worker_opens_its_own_circuit_only() {
    let world = World::new();
    app(
        &world,
        "cmd = [\"sh\", \"-c\", \"test $CLMGR_SLOT != 1 || test -e ok || exit 4; exec sleep 1000\"]\ninstances = 3\nmin_uptime = \"100ms\"\nmax_restarts = 6\nbackoff = { first = \"150ms\", factor = 1 }",
    );
    let _whatever = world.run(&["start"]);
    world.until("one circuit", || world.states("a") == ["online", "errored", "online"]);
    assert_eq!(world.count_events("circuit_open", "a"), 1);
    let others = world.pids("a");
    world.file("ok", "");
    world.run(&["reset", "a"]).ok();
    world.until("all run", || world.states("a") == ["online"; 3]);
    let now = world.pids("a");
    assert_eq!((others[0], others[2]), (now[0], now[2]), "the others are left alone");
}

#[test]
fn an_open_circuit_is_probed_by_one_and_closes_for_all() {
    let world = World::new();
    app(
        &world,
        "cmd = [\"sh\", \"-c\", \"test -e ok || exit 4; exec sleep 1000\"]\ninstances = 4\nmin_uptime = \"100ms\"\nbackoff = { first = \"50ms\" }\nbreaker_cooldown = \"500ms\"",
    );
    let _whatever = world.run(&["start"]);
    world.until("a failed probe", || world.count_events("circuit_probe", "a") >= 2);
    assert_eq!(world.count_events("circuit_open", "a"), 1, "an open circuit opens once");
    world.file("ok", "");
    world.until("all run", || world.states("a") == ["online"; 4]);
    assert_eq!(world.count_events("circuit_closed", "a"), 1);
}

#[test]
fn a_program_that_cannot_be_executed_says_so_and_is_not_hammered() {
    let world = World::new();
    world.file("run.sh", "#!/bin/sh\nexec sleep 1000\n");
    app(&world, "cmd = \"./run.sh\"");
    world.run(&["start"]).ok();
    world.run(&["stop", "a"]).ok();
    std::fs::rename(world.path().join("run.sh"), world.path().join("gone.sh")).unwrap();
    let said = world.run(&["start", "a"]);
    said.refused(1, "run.sh");
    world.until("it gives up", || {
        world.states("a") == ["errored"] || world.states("a") == ["backoff"]
    });
    assert!(world.count_events("spawn_failed", "a") <= 5);
    std::fs::rename(world.path().join("gone.sh"), world.path().join("run.sh")).unwrap();
    world.run(&["start", "a"]).ok();
    assert_eq!(world.states("a"), ["online"]);
}
