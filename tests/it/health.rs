//! An instance that was ready and does not work any more is found, named and replaced; one that works never is.

use serde_json::Value;

use crate::harness::{World, free_port, lives};

/// What is known of an instance.
#[track_caller]
pub fn known(world: &World, slot: usize) -> Value {
    world.describe("a")["status"]["instances"][slot]["health"].clone()
}

#[track_caller]
pub fn becomes_healthy(world: &World) {
    world.until("it is healthy", || known(world, 0)["state"] == "healthy");
}

/// What was said of instances that were found not to work.
#[track_caller]
pub fn reasons(world: &World) -> Vec<String> {
    let events = world.events();
    let found = events.iter().filter(|event| event["kind"] == "unhealthy");
    found
        .map(|event| event["message"].as_str().unwrap().to_owned())
        .collect()
}

#[track_caller]
pub fn becomes_unhealthy(world: &World, why: &str) {
    world.until(&format!("unhealthy: {why}"), || {
        reasons(world).iter().any(|reason| reason.contains(why))
    });
}

/// Answers as the file `mode` says: a status, or `silent`; not at all if the file `deaf` names its pid. On a port, or on a Unix socket.
const ANSWERS: &str = r#"
import os, socket, sys, threading, time
where = sys.argv[1]
if where.isdigit():
    s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(("127.0.0.1", int(where)))
else:
    s = socket.socket(socket.AF_UNIX)
    if os.path.exists(where): os.unlink(where)
    s.bind(where)
s.listen(64)
def serve(c):
    data = c.recv(4096)
    if not data: return c.close()
    mode = open("mode").read()
    if mode == "silent": time.sleep(1000)
    c.sendall(f"HTTP/1.1 {mode} X\r\nContent-Length: 2\r\n\r\nok".encode()); c.close()
while True:
    if os.path.exists("deaf") and open("deaf").read() == str(os.getpid()):
        s.close(); time.sleep(1000)
    s.settimeout(0.01)
    try: c, _ = s.accept()
    except TimeoutError: continue
    c.settimeout(None)
    threading.Thread(target=serve, args=(c,), daemon=True).start()
"#;

#[track_caller]
fn answering(place: &str, health: &str, more: &str) -> World {
    let world = World::new();
    world.file("app.py", ANSWERS);
    world.file("mode", "200");
    let ready = if place.contains(".sock") {
        "listen".to_owned()
    } else {
        "spawn".to_owned()
    };
    world.file(
        "ecosystem.toml",
        &format!("[[apps]]\nname = \"a\"\nscript = \"app.py\"\ninterpreter = \"/usr/bin/python3\"\nargs = [\"{place}\"]\nready = \"{ready}\"\nkill_timeout = \"1s\"\n{more}\n[apps.health]\n{health}\ninterval = \"100ms\"\nretries = 2\nstart_period = \"1h\"\n"),
    );
    world.run(&["start"]).ok();
    becomes_healthy(&world);
    assert_eq!(reasons(&world), [""; 0]);
    let known = known(&world, 0);
    assert_eq!((&known["failures"], &known["reason"]), (&Value::from(0), &Value::Null));
    assert!(known["answered"].is_i64(), "{known}");
    world
}

#[track_caller]
fn http() -> (World, String) {
    let port = free_port();
    let world = answering(
        &port.to_string(),
        "http = \"http://127.0.0.1:{port}/alive?{slot}\"\ntimeout = \"5s\"",
        &format!("env = {{ PORT = {port} }}"),
    );
    (world, format!("health: GET http://127.0.0.1:{port}/alive?0"))
}

/// The instance that was found is replaced by another process.
#[track_caller]
pub fn is_replaced(world: &World, before: i64) {
    world.until("it is replaced", || !lives(before) && world.pids("a")[0] != before);
}

#[test]
fn an_http_status_is_named() {
    let (world, asked) = http();
    let before = world.pids("a")[0];
    world.file("mode", "503");
    becomes_unhealthy(&world, &format!("{asked} answered 503, 2 times in a row"));
    world.file("mode", "302");
    is_replaced(&world, before);
    becomes_healthy(&world);
}

#[test]
fn a_port_that_nobody_listens_on_is_named() {
    let port = free_port();
    let world = answering(&port.to_string(), &format!("tcp = \"127.0.0.1:{port}\""), "");
    let before = world.pids("a")[0];
    let described = world.run(&["describe", "a"]).ok().out;
    assert!(
        described.contains("instance 0 is healthy") && described.contains("every 100ms"),
        "{described}"
    );
    world.file("deaf", &before.to_string());
    becomes_unhealthy(
        &world,
        &format!("health: 127.0.0.1:{port}: connection refused, 2 times in a row"),
    );
    is_replaced(&world, before);
}

#[test]
fn a_unix_socket_that_nobody_listens_on_is_named() {
    let world = answering("a.sock", "unix = \"a.sock\"", "");
    let before = world.pids("a")[0];
    let path = world.path().join("a.sock");
    world.file("deaf", &before.to_string());
    becomes_unhealthy(
        &world,
        &format!("health: {}: connection refused, 2 times in a row", path.display()),
    );
    is_replaced(&world, before);
}

#[test]
fn no_answer_in_time_is_named() {
    let port = free_port();
    let world = answering(
        &port.to_string(),
        &format!("http = \"http://127.0.0.1:{port}/\"\ntimeout = \"2s\""),
        "",
    );
    world.file("mode", "silent");
    becomes_unhealthy(
        &world,
        &format!("health: GET http://127.0.0.1:{port}/: no answer within 2s, 2 times in a row"),
    );
}

/// Says for which instance it was asked, and answers as the file of its name says.
const CHECK: &str =
    "#!/bin/sh\nkill -0 $CLMGR_PID || exit 9\necho $CLMGR_SLOT >> asked\nread code < code-$CLMGR_SLOT\nexit $code\n";

#[track_caller]
fn checked(instances: u32, health: &str, more: &str) -> World {
    let world = World::new();
    world.file("check", CHECK);
    for slot in 0..instances {
        world.file(&format!("code-{slot}"), "0\n");
    }
    world.file(
        "ecosystem.toml",
        &format!("[[apps]]\nname = \"a\"\ncmd = \"sleep 1000\"\ninstances = {instances}\nrollout = {{ min_healthy = \"0s\" }}\n{more}\n[apps.health]\nexec = \"./check\"\ninterval = \"100ms\"\n{health}\n"),
    );
    world
}

#[test]
fn a_command_judges_its_own_instance_only() {
    let world = checked(3, "retries = 2", "");
    world.run(&["start"]).ok();
    for slot in 0..3 {
        world.until("all are healthy", || known(&world, slot)["state"] == "healthy");
    }
    let before = world.pids("a");
    world.file("code-1", "3\n");
    becomes_unhealthy(&world, "health: ./check ended with exit code 3, 2 times in a row");
    world.file("code-1", "0\n");
    world.until("the one is replaced", || {
        let now = world.pids("a");
        now[1] != before[1] && now[1] != 0 && world.states("a") == ["online"; 3]
    });
    let now = world.pids("a");
    assert_eq!((now[0], now[2]), (before[0], before[2]));
    let events = world.events();
    let slots: Vec<_> = events
        .iter()
        .filter(|event| event["kind"] == "unhealthy")
        .map(|event| &event["slot"])
        .collect();
    assert_eq!(slots, [&Value::from(1)]);
}

#[test]
fn failures_before_the_first_success_do_not_count_during_the_start_period() {
    let world = checked(1, "retries = 1\nstart_period = \"1h\"", "");
    world.file("code-0", "7\n");
    world.run(&["start"]).ok();
    let before = world.pids("a");
    world.until("it was asked often", || world.text("asked").lines().count() > 5);
    let known = known(&world, 0);
    assert_eq!((&known["state"], &known["failures"]), (&"starting".into(), &0.into()));
    assert_eq!(known["reason"], "./check ended with exit code 7");
    assert_eq!(reasons(&world), [""; 0]);
    world.file("code-0", "0\n");
    becomes_healthy(&world);
    assert_eq!(world.pids("a"), before);
    world.file("code-0", "8\n");
    becomes_unhealthy(&world, "health: ./check ended with exit code 8");
}

#[test]
fn a_command_that_does_not_end_is_ended() {
    let world = checked(1, "retries = 1\ntimeout = \"300ms\"\nstart_period = \"1h\"", "");
    world.file("check", "#!/bin/sh\necho $$ >> asked\nexec sleep 1000\n");
    world.run(&["start"]).ok();
    world.until("it was asked twice", || world.text("asked").lines().count() > 1);
    let first: i64 = world.text("asked").lines().next().unwrap().parse().unwrap();
    world.until("the first is gone", || !lives(first));
    assert_eq!(known(&world, 0)["reason"], "./check did not end within 300ms");
    world.run(&["stop", "a"]).ok();
    world.until("the last is gone", || {
        let asked = world.text("asked");
        asked.lines().all(|pid| !lives(pid.parse().unwrap()))
    });
}

#[test]
fn the_next_daemon_goes_on() {
    let (world, asked) = http();
    let before = world.pids("a");
    let (daemon, _) = world.manager();
    assert!(world.kill9(daemon));
    world.until("another daemon", || world.manager().0 != daemon);
    becomes_healthy(&world);
    assert_eq!((world.pids("a"), reasons(&world)), (before.clone(), Vec::new()));
    world.file("mode", "500");
    becomes_unhealthy(&world, &format!("{asked} answered 500, 2 times in a row"));
    world.file("mode", "200");
    is_replaced(&world, before[0]);
}

/// Says `WATCHDOG=1` all the time until there is a file `silent`; then it does what that says.
const BEATS: &str = r#"
import os, socket, sys, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
def say(text): s.sendto(text.encode(), os.environ["NOTIFY_SOCKET"])
assert os.environ["WATCHDOG_PID"] == str(os.getpid()), os.environ
open("usec", "w").write(os.environ["WATCHDOG_USEC"])
say("READY=1")
beats = 0
if os.path.exists("longer"): say("WATCHDOG_USEC=3600000000")
while not os.path.exists("silent"):
    say("WATCHDOG=1"); beats += 1
    if beats == 5: open("beating", "w").write(str(os.getpid()))
    time.sleep(0.05)
text = open("silent").read()
if text: say(text)
os.unlink("silent")
open("quiet", "w").close()
time.sleep(1000)
"#;

#[track_caller]
fn beating(period: &str, longer: bool) -> World {
    let world = World::new();
    world.file("app.py", BEATS);
    if longer {
        world.file("longer", "");
    }
    world.file(
        "ecosystem.toml",
        &format!("[[apps]]\nname = \"a\"\nscript = \"app.py\"\ninterpreter = \"/usr/bin/python3\"\nready = \"notify\"\nwatchdog = \"{period}\"\nkill_timeout = \"1s\"\n"),
    );
    world.run(&["start"]).ok();
    world.until("it beats", || !world.text("beating").is_empty());
    assert_eq!(reasons(&world), [""; 0]);
    world
}

#[test]
fn a_heartbeat_that_stops_is_missed() {
    let world = beating("5s", false);
    assert_eq!(world.text("usec"), "5000000");
    let before = world.pids("a")[0];
    assert_eq!(known(&world, 0)["state"], "healthy");
    world.file("silent", "");
    becomes_unhealthy(&world, "no WATCHDOG=1 for 5s");
    is_replaced(&world, before);
}

#[test]
fn an_instance_may_say_itself_that_it_is_broken() {
    let world = beating("1h", false);
    let before = world.pids("a")[0];
    world.file("silent", "WATCHDOG=trigger");
    becomes_unhealthy(&world, "it said WATCHDOG=trigger");
    is_replaced(&world, before);
}

#[test]
fn a_longer_time_is_kept_by_the_next_daemon() {
    let world = beating("1s", true);
    let before = world.pids("a");
    world.file("silent", "");
    world.until("it is quiet", || world.path().join("quiet").exists());
    let (daemon, _) = world.manager();
    assert!(world.kill9(daemon));
    world.until("another daemon", || world.manager().0 != daemon);
    // Long enough for the time of the spec to be over, as far as an app without a heartbeat can tell.
    let (_keep, quiet) = std::sync::mpsc::channel::<()>();
    let _nothing = quiet.recv_timeout(std::time::Duration::from_millis(2500));
    assert_eq!((world.pids("a"), reasons(&world)), (before, Vec::new()));
}

/// Answers 500 if there is a file for its slot and it is as old as that says.
const STATUSES: &str = r#"
import os, socket
s = socket.socket(fileno=3); s.setblocking(True)
slot, mine = os.environ["CLMGR_SLOT"], os.path.exists("bad-" + os.environ["CLMGR_SLOT"])
while True:
    c, peer = s.accept()
    data = c.recv(4096)
    bad = not mine and os.path.exists("bad-" + slot)
    if data: c.sendall(b"HTTP/1.0 " + (b"500 X" if bad else b"200 X") + b"\r\n\r\n" + str(os.getpid()).encode())
    c.close()
"#;

#[test]
fn on_a_common_port_each_instance_is_judged_for_itself() {
    let port = free_port();
    let world = World::new();
    world.file("app.py", STATUSES);
    world.file(
        "ecosystem.toml",
        &format!("[[apps]]\nname = \"a\"\nscript = \"app.py\"\ninterpreter = \"/usr/bin/python3\"\ninstances = 4\nlisten = \"127.0.0.1:{port}\"\nready = {{ http = \"http://127.0.0.1:{{port}}/\" }}\nhealth = {{ http = \"http://127.0.0.1:{{port}}/\", interval = \"100ms\", timeout = \"20s\", retries = 1 }}\nrollout = {{ min_healthy = \"100ms\" }}\n"),
    );
    let said = world.run(&["start"]).ok();
    assert!(!said.err.contains("warning"), "{}", said.err);
    for slot in 0..4 {
        world.until("all are healthy", || known(&world, slot)["state"] == "healthy");
    }
    let before = world.pids("a");
    world.file("bad-2", "");
    world.until("the one is replaced", || {
        let now = world.pids("a");
        now[2] != before[2] && now[2] != 0 && !lives(before[2]) && world.states("a") == ["online"; 4]
    });
    // All the others have been asked since.
    let asked = |slot: usize| known(&world, slot)["answered"].as_i64();
    for slot in [0, 1, 3] {
        let last = asked(slot);
        world.until("it was asked again", || asked(slot) > last);
    }
    let now = world.pids("a");
    assert_eq!([now[0], now[1], now[3]], [before[0], before[1], before[3]]);
    let why = format!("health: GET http://127.0.0.1:{port}/ answered 500");
    assert_eq!(reasons(&world), [why]);
}
