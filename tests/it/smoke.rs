//! The main job, once through.

use crate::harness::World;

#[test]
fn an_app_is_started_scaled_reloaded_stopped_and_deleted() {
    let world = World::new();
    world.run(&["start", "sleep 1000", "--name", "s", "-i", "2"]).ok();
    assert_eq!(world.states("s"), ["online", "online"]);
    let before = world.pids("s");
    world.run(&["scale", "s", "+1"]).ok();
    assert_eq!(world.pids("s")[..2], before[..], "scaling touches nobody else");
    world.run(&["scale", "s", "-2"]).ok();
    assert_eq!(world.pids("s"), before[..1]);
    world.run(&["reload", "s"]).ok();
    assert_ne!(world.pids("s"), before[..1]);
    world.run(&["stop", "s"]).ok();
    assert_eq!(world.states("s"), ["stopped"]);
    world.run(&["delete", "s"]).ok();
    assert_eq!(world.status()["apps"], serde_json::json!([]));
}

#[test]
fn apps_are_read_from_standard_input() {
    let world = World::new();
    let toml = "[[apps]]\nname = \"one\"\ncmd = \"sleep 1000\"\n";
    world.run_with_input(&["start", "-"], toml).ok();
    let json = r#"{"apps": [{"name": "two", "cmd": ["sleep", "1000"], "instances": 2}]}"#;
    world.run_with_input(&["start", "-"], json).ok();
    assert_eq!((world.states("one").len(), world.states("two").len()), (1, 2));
    world
        .run_with_input(&["start", "-"], "[[apps]]\nname = \"three\"\n")
        .refused(2, "nothing to run");
    assert_eq!(world.status()["apps"].as_array().unwrap().len(), 2);
}
