//! A reload cannot break production.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::harness::{Said, World, free_port, lives};

/// What is fast here: a generation proves itself in 200 ms.
const QUICK: &str = "rollout = { min_healthy = \"200ms\" }\nkill_timeout = \"2s\"\n";

fn app(world: &World, text: &str) {
    world.file("ecosystem.toml", &format!("[[apps]]\nname = \"a\"\n{QUICK}{text}\n"));
}

/// Everything a command said.
fn words(said: &Said) -> String {
    format!("{}{}", said.out, said.err)
}

/// The old generation is as it was: same processes, same spec, nothing else running.
#[track_caller]
fn intact(world: &World, pids: &[i64], spec: &Value) {
    assert_eq!(world.pids("a"), pids, "{}", world.report());
    assert!(
        world.states("a").iter().all(|state| state == "online"),
        "{}",
        world.report()
    );
    assert!(pids.iter().all(|pid| lives(*pid)));
    assert_eq!(&world.describe("a")["spec"], spec);
    assert_eq!(
        world.processes().len(),
        pids.len() + 2,
        "keeper, daemon and the old generation: {}",
        world.report()
    );
}

#[test]
fn a_good_reload_replaces_every_process() {
    let world = World::new();
    app(&world, "cmd = \"sleep 1000\"\ninstances = 3");
    world.run(&["start"]).ok();
    let old = world.pids("a");
    world.run(&["reload", "a"]).ok();
    let new = world.pids("a");
    assert_eq!(new.len(), 3);
    assert!(new.iter().all(|pid| !old.contains(pid) && lives(*pid)));
    assert!(old.iter().all(|pid| !lives(*pid)));
    assert!(
        world.instances("a").iter().all(|instance| instance["restarts"] == 0),
        "nobody crashed"
    );
    assert_eq!(world.count_events("reload_done", "a"), 1);
    assert_eq!(world.processes().len(), 5);
}

#[test]
fn a_generation_that_dies_at_once_is_rolled_back() {
    let world = World::new();
    world.file(
        "app.sh",
        "#!/bin/sh\ntest -e broken || exec sleep 1000\necho 'SyntaxError: line 7' >&2\nexit 3\n",
    );
    app(&world, "script = \"app.sh\"\ninstances = 3");
    world.run(&["start"]).ok();
    let (old, spec) = (world.pids("a"), world.describe("a")["spec"].clone());
    world.file("broken", "");
    for _ in 0..2 {
        let said = world.run(&["reload", "a"]);
        assert_eq!(said.code, 1, "{said:?}");
        assert!(
            words(&said).contains("exit code 3") && words(&said).contains("SyntaxError: line 7"),
            "{said:?}"
        );
        intact(&world, &old, &spec);
    }
    assert_eq!(world.count_events("reload_rolled_back", "a"), 2);
    assert_eq!(world.count_events("circuit_open", "a"), 0);
    std::fs::remove_file(world.path().join("broken")).unwrap();
    world.run(&["reload", "a"]).ok();
    assert!(old.iter().all(|pid| !lives(*pid)));
}

#[test]
fn a_generation_that_dies_soon_after_it_was_ready_is_rolled_back() {
    let world = World::new();
    world.file(
        "app.sh",
        "#!/bin/sh\necho up\ntest -e broken || exec sleep 1000\nsleep 0.3\necho 'lost the database' >&2\nexit 4\n",
    );
    world.file(
        "ecosystem.toml",
        "[[apps]]\nname = \"a\"\nscript = \"app.sh\"\ninstances = 2\nready = { log = \"up\" }\nrollout = { min_healthy = \"20s\" }\n",
    );
    world.run(&["start"]).ok();
    let (old, spec) = (world.pids("a"), world.describe("a")["spec"].clone());
    world.file("broken", "");
    let said = world.run(&["reload", "a"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(
        words(&said).contains("exit code 4") && words(&said).contains("lost the database"),
        "{said:?}"
    );
    intact(&world, &old, &spec);
}

#[test]
fn a_generation_that_dies_when_it_was_stable_but_not_proven_says_why() {
    let world = World::new();
    let script = world.file("app.sh", "#!/bin/sh\nexec sleep 1000\n");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    world.file(
        "ecosystem.toml",
        "[[apps]]\nname = \"a\"\nscript = \"app.sh\"\nmin_uptime = \"100ms\"\nrollout = { min_healthy = \"60s\" }\n",
    );
    world.run(&["start"]).ok();
    let (old, spec) = (world.pids("a"), world.describe("a")["spec"].clone());
    world.file(
        "app.sh",
        "#!/bin/sh\nsleep 2\necho the license has expired >&2\nexit 5\n",
    );
    let said = world.run(&["reload", "a"]);
    assert_eq!(said.code, 1, "{}", words(&said));
    assert!(words(&said).contains("the license has expired"), "{}", words(&said));
    intact(&world, &old, &spec);
}

#[test]
fn a_generation_that_is_never_ready_is_rolled_back() {
    let world = World::new();
    world.file(
        "app.sh",
        "#!/bin/sh\ntest -e broken && echo 'waiting for godot' >&2 || echo up\nexec sleep 1000\n",
    );
    app(
        &world,
        "script = \"app.sh\"\ninstances = 2\nready = { log = \"up\" }\nlisten_timeout = \"3s\"",
    );
    world.run(&["start"]).ok();
    let (old, spec) = (world.pids("a"), world.describe("a")["spec"].clone());
    world.file("broken", "");
    let said = world.run(&["reload", "a"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(
        words(&said).contains("not ready after 3s") && words(&said).contains("waiting for godot"),
        "{said:?}"
    );
    intact(&world, &old, &spec);
}

#[test]
fn a_program_that_is_gone_is_rolled_back() {
    let world = World::new();
    world.file("app.sh", "#!/bin/sh\nexec sleep 1000\n");
    app(&world, "script = \"app.sh\"\ninstances = 2");
    world.run(&["start"]).ok();
    let (old, spec) = (world.pids("a"), world.describe("a")["spec"].clone());
    std::fs::remove_file(world.path().join("app.sh")).unwrap();
    let said = world.run(&["reload", "a"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(words(&said).contains("app.sh"), "{said:?}");
    intact(&world, &old, &spec);
    // An edited file that names a program that is not there is not even tried.
    app(&world, "script = \"other.sh\"\ninstances = 2");
    assert_ne!(world.run(&["start"]).code, 0);
    intact(&world, &old, &spec);
}

#[test]
fn an_edited_file_is_rolled_out_and_an_unchanged_one_is_not() {
    let world = World::new();
    let text = |value: &str, instances: u32| {
        format!("cmd = \"sleep 1000\"\ninstances = {instances}\nenv = {{ COLOUR = \"{value}\" }}")
    };
    app(&world, &text("red", 2));
    world.run(&["start"]).ok();
    let red = world.pids("a");
    world.run(&["start"]).ok();
    world.run(&["start", "ecosystem.toml"]).ok();
    assert_eq!(world.pids("a"), red, "unchanged");
    assert_eq!(world.count_events("reload_started", "a"), 0);
    app(&world, &text("blue", 2));
    world.run(&["start"]).ok();
    let blue = world.pids("a");
    assert!(blue.iter().all(|pid| !red.contains(pid)));
    let environ = std::fs::read_to_string(format!("/proc/{}/environ", blue[1])).unwrap();
    assert!(environ.contains("COLOUR=blue\0"), "{environ}");
    app(&world, &text("blue", 3));
    world.run(&["start"]).ok();
    assert_eq!(world.pids("a")[..2], blue[..], "a new number replaces nobody");
    assert_eq!(world.pids("a").len(), 3);
}

#[test]
fn a_broken_edit_is_rolled_back_and_the_old_spec_stays_for_good() {
    let world = World::new();
    app(
        &world,
        "cmd = [\"sh\", \"-c\", \"exec sleep 1000\"]\ninstances = 3\nenv = { COLOUR = \"red\" }",
    );
    world.run(&["start"]).ok();
    let (old, spec) = (world.pids("a"), world.describe("a")["spec"].clone());
    app(
        &world,
        "cmd = [\"sh\", \"-c\", \"echo no module named flask >&2; exit 1\"]\ninstances = 3\nenv = { COLOUR = \"blue\" }",
    );
    let said = world.run(&["start"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(
        words(&said).contains("exit code 1") && words(&said).contains("no module named flask"),
        "{said:?}"
    );
    intact(&world, &old, &spec);
    // What crashes later comes back as it was.
    assert!(world.kill9(old[1]));
    world.until("its replacement", || {
        let now = world.pids("a");
        now[1] != 0 && now[1] != old[1] && world.states("a") == ["online"; 3]
    });
    assert_eq!(world.describe("a")["spec"], spec);
    // So it is after everything was killed and came back.
    world.run(&["kill"]).ok();
    world.run(&["resurrect"]).ok();
    world.until("the old generation", || world.states("a") == ["online"; 3]);
    assert_eq!(world.describe("a")["spec"], spec);
}

#[test]
fn without_rollback_the_new_generation_stays() {
    let world = World::new();
    world.file(
        "app.sh",
        "#!/bin/sh\ntest -e broken || exec sleep 1000\necho broken >&2\nexit 3\n",
    );
    app(
        &world,
        "script = \"app.sh\"\ninstances = 2\nbackoff = { first = \"10m\", max = \"10m\" }",
    );
    world.run(&["start"]).ok();
    let old = world.pids("a");
    world.file("broken", "");
    let said = world.run(&["reload", "a", "--no-rollback"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert_eq!(world.count_events("reload_rolled_back", "a"), 0);
    std::fs::remove_file(world.path().join("broken")).unwrap();
    world.run(&["restart", "a"]).ok();
    world.until("both run", || world.states("a") == ["online"; 2]);
    assert!(world.pids("a").iter().all(|pid| !old.contains(pid)));
}

/// A server that says its pid. It binds its port without any sharing.
const SERVER: &str = r#"
import os, socket, sys
if os.path.exists("broken"):
    print("cannot read the configuration", file=sys.stderr, flush=True); sys.exit(2)
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("127.0.0.1", int(os.environ["PORT"]))); s.listen()
while True:
    c, _ = s.accept(); c.sendall(str(os.getpid()).encode()); c.close()
"#;

fn asked(port: u16) -> Option<i64> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    let _half = stream.flush();
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    text.parse().ok()
}

#[test]
fn an_app_with_a_port_is_stopped_first_and_comes_back_even_if_the_new_one_is_broken() {
    let world = World::new();
    let port = free_port();
    world.file("app.py", SERVER);
    app(
        &world,
        &format!(
            "script = \"app.py\"\ninterpreter = \"/usr/bin/python3\"\nready = \"listen\"\nenv = {{ PORT = {port} }}"
        ),
    );
    world.run(&["start"]).ok();
    let first = world.pids("a")[0];
    assert_eq!(asked(port), Some(first));
    world.run(&["reload", "a"]).ok();
    let second = world.pids("a")[0];
    assert_ne!(first, second);
    assert_eq!(asked(port), Some(second));
    let spec = world.describe("a")["spec"].clone();
    world.file("broken", "");
    let reload = world.begin(&["reload", "a"]);
    // The rollback needs the old code, as after a failed deploy that is put right.
    world.until("the failure", || {
        world
            .events()
            .iter()
            .any(|event| event["kind"] == "exited" && event["exit"]["status"]["code"] == 2)
    });
    std::fs::remove_file(world.path().join("broken")).unwrap();
    let said = crate::harness::finish(reload, &["reload"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(
        words(&said).contains("exit code 2") && words(&said).contains("cannot read the configuration"),
        "{said:?}"
    );
    world.until("service", || asked(port).is_some());
    world.until("one online", || world.states("a") == ["online"]);
    assert_eq!(asked(port), Some(world.pids("a")[0]));
    assert_eq!(world.describe("a")["spec"], spec);
}

#[test]
fn a_reload_of_servers_never_takes_more_than_one_away() {
    let world = World::new();
    let port = free_port();
    world.file("app.py", SERVER);
    // The client asks one after the other: the reload must not go on from the first to the second in between.
    world.file(
        "ecosystem.toml",
        &format!(
            "[[apps]]\nname = \"a\"\nrollout = {{ min_healthy = \"3s\" }}\nscript = \"app.py\"\ninterpreter = \"/usr/bin/python3\"\nready = \"listen\"\ninstances = 2\nincrement_var = \"PORT\"\nenv = {{ PORT = {port} }}\n"
        ),
    );
    let said = world.run(&["start"]);
    if said.code != 0 {
        // The port next to ours is somebody's.
        assert!(words(&said).contains("Address already in use"), "{said:?}");
        return;
    }
    let over = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let client = std::thread::spawn({
        let over = std::sync::Arc::clone(&over);
        move || {
            let (mut answers, mut outages) = (0, 0);
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                let alive = (port..port + 2).filter(|port| asked(*port).is_some()).count();
                answers += alive;
                outages += usize::from(alive == 0);
                crate::harness::rest(2);
            }
            (answers, outages)
        }
    });
    world.run(&["reload", "a"]).ok();
    over.store(true, std::sync::atomic::Ordering::Relaxed);
    let (answers, outages) = client.join().unwrap();
    assert!(answers > 0);
    assert_eq!(outages, 0, "one of two always serves");
}

#[test]
fn an_interrupted_reload_is_finished_by_the_daemon() {
    let world = World::new();
    app(&world, "cmd = \"sleep 1000\"\ninstances = 3");
    world.run(&["start"]).ok();
    let old = world.pids("a");
    let mut reload = world.begin(&["reload", "a"]);
    world.until("its begin", || world.count_events("reload_started", "a") == 1);
    reload.kill().unwrap();
    let _status = reload.wait().unwrap();
    world.until("its end", || world.count_events("reload_done", "a") == 1);
    assert!(world.pids("a").iter().all(|pid| !old.contains(pid) && lives(*pid)));
}
