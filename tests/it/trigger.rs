//! What apps tell over their IPC channel, and what they can be asked for. The messages are those of @pm2/io.

use std::io::Write as _;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::World;

/// Node is here; else the test says so.
fn has_node() -> bool {
    let found = Command::new("node")
        .arg("--version")
        .output()
        .is_ok_and(|out| out.status.success());
    if !found {
        let _untold = writeln!(std::io::stderr(), "SKIPPED: node is not installed");
    }
    found
}

/// Announces actions and does them.
const APP: &str = r#"
const tell = (type, data) => process.send({ type, data });
const actions = {
  plain: () => ({ pong: Number(process.env.NODE_APP_INSTANCE) }),
  with: (params) => 'got ' + JSON.stringify(params),
  silent: () => undefined,
  die: () => process.exit(3),
};
for (const [action_name, handler] of Object.entries(actions))
  tell('axm:action', { action_name, action_type: 'custom', arity: handler.length + 1 });
if (process.env.NODE_APP_INSTANCE === '0') tell('axm:action', { action_name: 'first', action_type: 'custom', arity: 1 });
process.on('message', (message) => {
  const action_name = message.msg || message;
  const answer = action_name === 'first' ? 1 : actions[action_name](message.opts);
  if (answer !== undefined) tell('axm:reply', { at: Date.now(), action_name, return: answer });
});
tell('axm:monitor', { Users: { historic: true, unit: 'people', type: 'app/users', value: 42 } });
tell('axm:monitor', { Jobs: { historic: true, value: '1.50' }, Users: { unit: 'people', value: 43 } });
tell('human:event', { __name: 'user:register', id: 7 });
for (let at = 0; at < 100; at++)
  tell('process:exception', { name: 'Error', message: 'boom ' + at, stack: 'Error: boom\n    at here:1:2' });
tell('somebody:else', {});
process.send('ready');
"#;

fn world(more: &str) -> World {
    let world = World::new();
    world.file("app.js", APP);
    world.file(
        "ecosystem.toml",
        &format!("[[apps]]\nname = \"api\"\nscript = \"app.js\"\nexec_mode = \"fork\"\ninstances = 2\n{more}"),
    );
    world.run(&["start", "ecosystem.toml"]).ok();
    world
}

#[test]
fn actions_are_done_and_answered_by_every_instance() {
    if !has_node() {
        return;
    }
    let world = world("ipc = true\nready = \"ipc\"\n");
    let said = world.run(&["trigger", "api", "plain"]).ok();
    assert!(
        said.out.contains("api:0: {\"pong\":0}\napi:1: {\"pong\":1}"),
        "{}",
        said.out
    );
    let said = world.run(&["trigger", "api:1", "with", "-x y", "--json"]).ok().json();
    assert_eq!(said["results"][0]["reply"], "got \"-x y\"");
    assert_eq!(said["results"].as_array().unwrap().len(), 1);
    // Nothing is lost, whoever asks at the same time.
    let asked: Vec<_> = (0..10)
        .map(|_| world.begin(&["trigger", "api", "plain", "--json"]))
        .collect();
    for child in asked {
        let said = crate::harness::finish(child, &["trigger"]).ok().json();
        assert_eq!(said["results"][1]["reply"], json!({"pong": 1}));
    }
}

#[test]
fn what_is_not_answered_is_a_failure() {
    if !has_node() {
        return;
    }
    let world = world("ipc = true\nready = \"ipc\"\n");
    world
        .run(&["trigger", "api", "silent", "--timeout", "200ms"])
        .refused(1, "did not answer within 200ms");
    let said = world.run(&["trigger", "api", "nosuch"]);
    let said = said.refused(1, "has announced no action \"nosuch\"");
    assert!(
        said.err.contains("it does these: plain, with, silent, die, first"),
        "{}",
        said.err
    );
    // One answers, one cannot: both are told.
    let said = world.run(&["trigger", "api", "first"]);
    assert_eq!(said.code, 1, "{}", said.err);
    assert!(
        said.out.contains("api:0: 1") && said.out.contains("api:1: it has announced no action"),
        "{}",
        said.out
    );
    world
        .run(&["trigger", "api:0", "die"])
        .refused(1, "it ended before it answered");
    world.run(&["trigger", "nobody", "plain"]).refused(3, "nobody");
}

#[test]
fn without_a_channel_nothing_can_be_asked() {
    if !has_node() {
        return;
    }
    let world = World::new();
    world.file("ecosystem.toml", "[[apps]]\nname = \"api\"\ncmd = \"sleep 1000\"\n");
    world.run(&["start", "ecosystem.toml"]).ok();
    world.run(&["trigger", "api", "plain"]).refused(1, "ipc = true");
}

#[test]
fn metrics_errors_and_events_are_told() {
    if !has_node() {
        return;
    }
    let world = world("ipc = true\nready = \"ipc\"\n");
    let shown = world.describe("api");
    let metrics: Vec<Value> = shown["metrics"].as_array().unwrap().clone();
    let slots: Vec<&Value> = metrics.iter().map(|one| &one["slot"]).collect();
    assert_eq!(slots, [0, 1]);
    let expected = json!([
        { "name": "Users", "value": 43, "unit": "people" },
        { "name": "Jobs", "value": "1.50" },
    ]);
    assert_eq!(metrics[0]["metrics"], expected);
    let page = world.run(&["describe", "api"]).ok().out;
    for part in [
        "Users  43 people",
        "clmgr trigger api with [PARAMS]",
        "clmgr trigger api plain\n",
    ] {
        assert!(page.contains(part), "no {part:?} in {page}");
    }
    assert_eq!(world.count_events("app_event", "api"), 2);
    // A hundred at once from each of two are not a hundred lines.
    let errors: Vec<Value> = world
        .events()
        .into_iter()
        .filter(|event| event["kind"] == "app_exception")
        .collect();
    // Ten of each, and one of them is the event.
    assert_eq!(errors.len(), 2 * 9, "{errors:?}");
    assert_eq!(errors[0]["message"], "Error: boom 0");
    assert_eq!(errors[0]["stderr"], json!(["Error: boom", "    at here:1:2"]));
}

#[test]
fn actions_can_be_asked_for_after_the_daemon_was_replaced() {
    if !has_node() {
        return;
    }
    let world = world("ipc = true\nready = \"ipc\"\n");
    let (daemon, _) = world.manager();
    assert!(world.kill9(daemon));
    world.until("another daemon", || world.manager().0 != daemon);
    let said = world.run(&["trigger", "api", "plain", "--json"]).ok().json();
    assert_eq!(said["results"][0]["reply"], json!({"pong": 0}));
}
