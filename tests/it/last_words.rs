//! What an app says before it dies: it is in its files before anybody is told of the end, and it is recorded.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{World, lives};
use crate::survival::kill_daemon;

/// Crashes that are nobody's business but the record's: one opens the circuit.
const ONCE: &str = "min_uptime = \"1h\"\nmax_restarts = 1\n";

fn app(name: &str, command: &str, more: &str) -> String {
    format!("[[apps]]\nname = \"{name}\"\ncmd = {command:?}\nlog_rotate = false\n{more}\n")
}

fn crashes(world: &World, app: &str) -> Vec<Value> {
    world.describe(app)["crashes"].as_array().unwrap().clone()
}

fn lines(value: &Value) -> Vec<String> {
    let lines = value["stderr"].as_array().map(Vec::as_slice).unwrap_or_default();
    lines.iter().map(|line| line.as_str().unwrap().to_owned()).collect()
}

/// The newest event of this kind.
fn event(world: &World, kind: &str, app: &str) -> Value {
    let is_meant = |event: &&Value| event["kind"] == kind && event["app"] == app;
    world.events().iter().rfind(is_meant).unwrap().clone()
}

/// More than a pipe holds on each stream, and dead at once.
const FAREWELL: &str = "\
import os, sys, time
time.sleep(float(sys.argv[1]))
me = os.getpid()
for fd in (2, 1):
    text = b''.join(b'%d says %d\\n' % (me, k) for k in range(6000)) + b'<%d> bye\\n' % me
    while text:
        text = text[os.write(fd, text):]
os._exit(3)
";

#[test]
fn who_hears_of_an_end_finds_the_last_words_in_the_files() {
    let world = World::new();
    world.file("farewell.py", FAREWELL);
    let young =
        "min_uptime = \"1h\"\nmax_restarts = 100000\nbackoff = { first = \"1ms\", max = \"1ms\", jitter = 0 }\n";
    // What was stable is started again before its last words were looked at.
    let stable = "min_uptime = \"1ms\"\n";
    world.file(
        "ecosystem.toml",
        &[
            app("young", "python3 farewell.py 0", young),
            app(
                "youngjson",
                "python3 farewell.py 0",
                &format!("{young}log_type = \"json\"\n"),
            ),
            app("stable", "python3 farewell.py 0.2", stable),
            app(
                "stabletime",
                "python3 farewell.py 0.2",
                &format!("{stable}time = true\ninstances = 2\n"),
            ),
        ]
        .concat(),
    );
    world.run(&["start"]);
    let mut follower = world
        .command(&["events", "--follow", "--json", "--kind", "exited"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut wanted: BTreeMap<String, u32> = ["young", "youngjson", "stable", "stabletime"]
        .map(|name| (name.to_owned(), 8))
        .into();
    for line in BufReader::new(follower.stdout.take().unwrap()).lines() {
        let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let name = event["app"].as_str().unwrap();
        for stream in ["out", "err"] {
            let log = world.text(&format!("home/logs/{name}-{}-{stream}.log", event["slot"]));
            let bye = format!("<{}> bye", event["pid"]);
            assert!(
                log.contains(&bye),
                "{bye} is not in the {} bytes of {stream}: {event}",
                log.len()
            );
        }
        let left = wanted.get_mut(name).unwrap();
        *left = left.saturating_sub(1);
        if wanted.values().all(|left| *left == 0) {
            break;
        }
    }
    assert!(wanted.values().all(|left| *left == 0), "{wanted:?}\n{}", world.report());
    follower.kill().unwrap();
    follower.wait().unwrap();
    // The same for those who ask.
    for event in world.events().iter().filter(|event| event["kind"] == "exited") {
        let name = event["app"].as_str().unwrap();
        let log = world.text(&format!("home/logs/{name}-{}-err.log", event["slot"]));
        assert!(log.contains(&format!("<{}> bye", event["pid"])), "{event}");
    }
}

#[test]
fn a_crash_is_recorded_with_its_last_hundred_lines() {
    let world = World::new();
    world.file(
        "dies.py",
        "import os\nos.write(2, b''.join(b'line %d\\n' % k for k in range(150)) + b'\\xff\\xfe bad\\r\\nno end')\nos._exit(4)\n",
    );
    world.file("ecosystem.toml", &app("a", "python3 dies.py", ONCE));
    world.run(&["start"]);
    world.until("the crash", || world.states("a") == ["errored"]);
    let found = crashes(&world, "a");
    assert_eq!(found.len(), 1, "{}", world.report());
    let said = lines(&found[0]);
    assert_eq!(said.len(), 100);
    assert_eq!((said[0].as_str(), said[97].as_str()), ("line 52", "line 149"));
    assert_eq!(
        (said[98].as_str(), said[99].as_str()),
        ("\u{fffd}\u{fffd} bad", "no end")
    );
    assert_eq!(found[0]["exit"]["status"]["code"], 4);
    assert_eq!(lines(&event(&world, "exited", "a")), said);
    assert_eq!(lines(&event(&world, "circuit_open", "a")), said);
    let shown = world.run(&["describe", "a"]).ok().out;
    assert!(shown.contains("line 52") && shown.contains("no end"), "{shown}");
}

#[test]
fn one_line_of_a_megabyte_leaves_its_end() {
    let world = World::new();
    world.file(
        "dies.py",
        "import os\ntext = b'x' * (1 << 20) + b'the end\\n'\nwhile text:\n    text = text[os.write(2, text):]\nos._exit(4)\n",
    );
    world.file("ecosystem.toml", &app("a", "python3 dies.py", ONCE));
    world.run(&["start"]);
    world.until("the crash", || world.states("a") == ["errored"]);
    let said = lines(&crashes(&world, "a")[0]);
    // The end of the line is the last of the 64 KiB.
    assert_eq!((said.len(), said[0].len()), (1, (64 << 10) - 1));
    assert!(said[0].ends_with("xthe end"));
    let told = lines(&event(&world, "exited", "a"));
    assert_eq!((told.len(), told[0].len()), (1, 16 << 10));
    assert_eq!(world.text("home/logs/a-0-err.log").len(), (1 << 20) + 8);
}

#[test]
fn what_was_asked_for_and_what_was_stable_are_no_crashes() {
    let world = World::new();
    let app_file = world.file(
        "app",
        "#!/bin/sh\necho hello >&2\nwhile [ ! -e die ]; do sleep 0.02; done\nrm die\nexit 7\n",
    );
    let command = app_file.to_str().unwrap();
    world.file("ecosystem.toml", &app("a", command, "min_uptime = \"1ms\"\n"));
    world.run(&["start"]).ok();
    let before = world.pids("a");
    world.file("die", "");
    world.until("another", || {
        let now = world.pids("a");
        now[0] != 0 && now != before
    });
    world.run(&["restart", "a"]).ok();
    world.run(&["stop", "a"]).ok();
    let ends: Vec<Value> = world
        .events()
        .into_iter()
        .filter(|event| event["kind"] == "exited")
        .collect();
    assert_eq!(ends.len(), 3);
    assert!(ends.iter().all(|event| lines(event).is_empty()), "{ends:?}");
    assert!(crashes(&world, "a").is_empty());
}

/// Says half of it, and the rest when it is told to.
const HALVES: &str = "\
import os, time
os.write(2, b''.join(b'before %d\\n' % k for k in range(40)) + b'half')
while not os.path.exists('go'):
    time.sleep(0.02)
os.write(2, b' a line\\nafter\\n')
os._exit(6)
";

#[test]
fn what_a_dead_daemon_had_read_is_recorded_with_what_came_after() {
    for (format, kind) in [
        ("", "raw"),
        ("log_type = \"json\"\n", "json"),
        ("time = true\n", "stamped"),
    ] {
        let world = World::new();
        world.file("halves.py", HALVES);
        world.file(
            "ecosystem.toml",
            &app("a", "python3 halves.py", &format!("{ONCE}{format}")),
        );
        world.run(&["start"]);
        world.until("the first half", || {
            world.text("home/logs/a-0-err.log").contains("before 39")
        });
        // Once with one that reads nothing more, twice in all.
        kill_daemon(&world, world.manager().0);
        let (daemon, _) = world.manager();
        let pid = world.pids("a")[0];
        world.signal(daemon, Signal::STOP);
        world.file("go", "");
        world.until("its end", || !lives(pid));
        kill_daemon(&world, daemon);
        world.until("the crash", || world.states("a") == ["errored"]);
        let said = lines(&crashes(&world, "a")[0]);
        let mut expected: Vec<String> = (0..40).map(|k| format!("before {k}")).collect();
        expected.extend(["half a line".to_owned(), "after".to_owned()]);
        assert_eq!(said, expected, "{kind}");
        assert_eq!(lines(&event(&world, "exited", "a")), expected, "{kind}");
        let left: Vec<String> = std::fs::read_dir(world.home().join("log-journal"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.contains("words"))
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}
