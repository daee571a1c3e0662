//! Commands of which anything did not work say so: by their exit code, by the reason and the app's own last words, and
//! with the same facts as JSON.

use crate::harness::{Said, World};

fn app(world: &World, file: &str, name: &str, cmd: &str, more: &str) {
    world.file(
        file,
        &format!(
            "[[apps]]\nname = \"{name}\"\ncmd = {cmd}\nrollout = {{ min_healthy = \"100ms\" }}\nbackoff = {{ first = \"10ms\" }}\n{more}\n"
        ),
    );
}

/// Says why, and is never ready.
const BROKEN: &str = r#"["sh", "-c", "echo the reason >&2; exit 7"]"#;

/// The parts of the text, and of the JSON.
#[track_caller]
fn both(text: &Said, json: &Said, parts: &[&str]) {
    assert_eq!((text.code, json.code), (1, 1), "{} {}", text.out, text.err);
    let error = &json.json()["error"];
    assert_eq!(error["kind"], "failed");
    for part in parts {
        assert!(text.out.contains(part), "no {part:?} in: {}", text.out);
        let facts = serde_json::to_string(&error["results"]).unwrap();
        assert!(facts.contains(part), "no {part:?} in: {facts}");
    }
}

#[test]
fn a_new_version_that_fails_is_told_with_its_last_words_and_what_serves_now() {
    let world = World::new();
    app(&world, "a.toml", "a", r#""sleep 1000""#, "instances = 2");
    world.run(&["start", "a.toml"]).ok();
    let pids = world.pids("a");
    app(&world, "b.toml", "a", BROKEN, "instances = 2");
    let text = world.run(&["start", "b.toml"]);
    let json = world.run(&["reload", "b.toml", "--json"]);
    both(
        &text,
        &json,
        &["exit code 7", "the old generation keeps serving", "the reason"],
    );
    assert_eq!(world.pids("a"), pids);
    let kept = world.run(&["reload", "b.toml", "--no-rollback"]);
    assert_eq!(kept.code, 1, "{}", kept.err);
    for part in ["exit code 7", "the new generation was kept as asked", "the reason"] {
        assert!(kept.out.contains(part), "no {part:?} in: {}", kept.out);
    }
}

#[test]
fn an_instance_that_does_not_become_ready_is_a_failure_of_every_command() {
    let world = World::new();
    let never = "ready = { exec = \"false\" }\nlisten_timeout = \"100ms\"\nmax_restarts = 1";
    app(&world, "a.toml", "a", r#""sleep 1000""#, never);
    let parts = ["not ready after 100ms"];
    both(
        &world.run(&["start", "a.toml"]),
        &world.run(&["restart", "a", "--json"]),
        &parts,
    );
    both(
        &world.run(&["reload", "a"]),
        &world.run(&["start", "a", "--json"]),
        &parts,
    );
    app(
        &world,
        "b.toml",
        "b",
        r#""sleep 1000""#,
        "ready = { exec = [\"sh\", \"-c\", \"test $CLMGR_SLOT = 0\"] }\nlisten_timeout = \"3s\"",
    );
    world.run(&["start", "b.toml"]).ok();
    let text = world.run(&["scale", "b", "2"]);
    assert_eq!(text.code, 1, "{}", text.out);
    assert!(text.out.contains("b:1: not ready after 3s"), "{}", text.out);
}

#[test]
fn a_crash_before_it_is_ready_is_told_with_its_last_words() {
    let world = World::new();
    app(
        &world,
        "a.toml",
        "a",
        BROKEN,
        "ready = { exec = \"false\" }\nmax_restarts = 1",
    );
    let text = world.run(&["start", "a.toml"]);
    let json = world.run(&["restart", "a", "--json"]);
    both(&text, &json, &["exit code 7", "the reason"]);
}

#[test]
fn of_several_files_all_results_are_told() {
    let world = World::new();
    app(&world, "a.toml", "a", r#""sleep 1000""#, "");
    app(&world, "b.toml", "b", BROKEN, "ready = { exec = \"false\" }");
    for command in ["start", "reload", "restart"] {
        let said = world.run(&[command, "a.toml", "b.toml"]);
        assert_eq!(said.code, 1, "{command}: {}", said.err);
        for part in ["a  ", "b  1 failed", "the reason"] {
            assert!(said.out.contains(part), "{command}: no {part:?} in: {}", said.out);
        }
        world.run(&["delete", "b"]).ok();
    }
}

#[test]
fn a_target_that_means_nothing_changes_nothing() {
    let world = World::new();
    app(&world, "a.toml", "a", r#""sleep 1000""#, "");
    world.run(&["start", "a.toml"]).ok();
    let pids = world.pids("a");
    for command in ["reload", "restart"] {
        world.run(&[command, "a", "nobody"]).refused(3, "\"nobody\"");
        world.run(&[command, "a:5"]).refused(3, "a has no instance 5");
        world.run(&[command, "/a(/"]).refused(2, "regular expression");
        world.run(&[command, "a", "/a(/"]).refused(2, "regular expression");
    }
    world.run(&["scale", "nobody", "2"]).refused(3, "\"nobody\"");
    world
        .run(&["start", "a.toml", "missing.toml"])
        .refused(2, "missing.toml");
    assert_eq!(world.pids("a"), pids);
}

#[test]
fn what_the_circuit_keeps_from_starting_is_not_a_success() {
    let world = World::new();
    app(
        &world,
        "a.toml",
        "a",
        BROKEN,
        "max_restarts = 2\nbreaker_cooldown = \"never\"",
    );
    world.run(&["start", "a.toml"]);
    world.until("its circuit is open", || world.states("a") == ["errored"]);
    let text = world.run(&["scale", "a", "2"]);
    assert_eq!(text.code, 1, "{}", text.out);
    assert!(text.out.contains("the circuit is open"), "{}", text.out);
}
