//! An instance that was ready and does not work any more is found, named and replaced; one that works never is.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::Value;

use crate::harness::{PATIENCE, World, eventually, free_port, lives};

/// What is known of an instance.
#[track_caller]
fn known(world: &World, slot: usize) -> Value {
    world.describe("a")["status"]["instances"][slot]["health"].clone()
}

#[track_caller]
fn becomes_healthy(world: &World) {
    world.until("it is healthy", || known(world, 0)["state"] == "healthy");
}

/// What was said of instances that were found not to work.
#[track_caller]
fn reasons(world: &World) -> Vec<String> {
    let events = world.events();
    let found = events.iter().filter(|event| event["kind"] == "unhealthy");
    found
        .map(|event| event["message"].as_str().unwrap().to_owned())
        .collect()
}

#[track_caller]
fn becomes_unhealthy(world: &World, why: &str) {
    world.until(&format!("unhealthy: {why}"), || {
        reasons(world).iter().any(|reason| reason.contains(why))
    });
}

/// Answers as the file `mode` says: a status, or `silent`. On a port, or on a Unix socket.
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
    if os.path.exists("deaf"):
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
fn is_replaced(world: &World, before: i64) {
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
    world.file("deaf", "");
    becomes_unhealthy(
        &world,
        &format!("health: 127.0.0.1:{port}: connection refused, 2 times in a row"),
    );
    std::fs::remove_file(world.path().join("deaf")).unwrap();
    is_replaced(&world, before);
}

#[test]
fn a_unix_socket_that_nobody_listens_on_is_named() {
    let world = answering("a.sock", "unix = \"a.sock\"", "");
    let before = world.pids("a")[0];
    let path = world.path().join("a.sock");
    world.file("deaf", "");
    becomes_unhealthy(
        &world,
        &format!("health: {}: connection refused, 2 times in a row", path.display()),
    );
    std::fs::remove_file(world.path().join("deaf")).unwrap();
    is_replaced(&world, before);
}

#[test]
fn no_answer_in_time_is_named() {
    let port = free_port();
    let world = answering(
        &port.to_string(),
        &format!("http = \"http://127.0.0.1:{port}/\"\ntimeout = \"500ms\""),
        "",
    );
    world.file("mode", "silent");
    becomes_unhealthy(
        &world,
        &format!("health: GET http://127.0.0.1:{port}/: no answer within 500ms, 2 times in a row"),
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

/// Serves one request after the other, each as long as the file `work` says, until there is a file `stop` with how to
/// stop: `loop`, `SIGSTOP` or `sleep`. Its replacement serves.
const SERVES: &str = r#"
import os, signal, socket, time
s = socket.socket(fileno=3); s.setblocking(True)
while True:
    c, _ = s.accept()
    c.recv(4096)
    if os.path.exists("work"): time.sleep(float(open("work").read()))
    c.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + str(os.getpid()).encode()); c.close()
    if os.path.exists("stop"):
        how = open("stop").read(); os.unlink("stop")
        if how == "SIGSTOP": os.kill(os.getpid(), signal.SIGSTOP)
        elif how == "loop":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            while True: pass
        else: time.sleep(1000)
"#;

/// The same with Node, which always stops by an endless loop.
const NODE_SERVES: &str = r#"
const fs = require("fs");
require("http").createServer((request, response) => {
  response.end(String(process.pid));
  if (fs.existsSync("stop")) {
    fs.unlinkSync("stop");
    request.socket.on("close", () => { for (;;); });
  }
}).listen({ fd: 3 });
"#;

#[track_caller]
fn serving(listen: &str, more: &str) -> World {
    serving_with("app.py", "/usr/bin/python3", listen, more)
}

#[track_caller]
fn serving_with(script: &str, interpreter: &str, listen: &str, more: &str) -> World {
    let world = World::new();
    world.file("app.py", SERVES);
    world.file("app.js", NODE_SERVES);
    world.file(
        "ecosystem.toml",
        &format!("[[apps]]\nname = \"a\"\nscript = \"{script}\"\ninterpreter = \"{interpreter}\"\nlisten = {listen}\nhang_timeout = \"1s\"\nkill_timeout = \"1s\"\nrollout = {{ min_healthy = \"100ms\" }}\n{more}\n"),
    );
    world.run(&["start"]).ok();
    world
}

/// The pid that answered.
fn ask(stream: impl Read + Write) -> Option<i64> {
    answer(request(stream))
}

fn request<S: Write>(mut stream: S) -> S {
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    stream
}

fn answer(mut stream: impl Read) -> Option<i64> {
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    text.split_once("\r\n\r\n")?.1.parse().ok()
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[track_caller]
fn is_found_when_it_hangs(how: &str, also: &str) {
    let port = free_port();
    let world = serving(&format!("\"127.0.0.1:{port}\""), "");
    found_when_it_hangs(&world, port, how, also);
}

#[track_caller]
fn found_when_it_hangs(world: &World, port: u16, how: &str, also: &str) {
    let before = world.pids("a")[0];
    world.file("stop", how);
    assert_eq!(ask(connect(port)), Some(before));
    let waiting: Vec<TcpStream> = (0..3).map(|_| request(connect(port))).collect();
    becomes_unhealthy(
        world,
        &format!("hung: connections have waited for 1s on 127.0.0.1:{port} and none was accepted{also}"),
    );
    is_replaced(world, before);
    // Those who waited are served by the replacement.
    for stream in waiting {
        let served = answer(stream);
        assert!(served.is_some_and(|pid| pid != before), "{served:?}");
    }
    assert_eq!(reasons(world).len(), 1);
}

#[test]
fn a_stopped_server_is_hung() {
    is_found_when_it_hangs("SIGSTOP", "; its process is stopped");
}

#[test]
fn a_server_in_an_endless_loop_is_hung() {
    is_found_when_it_hangs("loop", "");
}

#[test]
fn a_server_that_waits_for_ever_is_hung() {
    is_found_when_it_hangs("sleep", "");
}

#[test]
fn a_node_server_in_an_endless_loop_is_hung() {
    let node = std::process::Command::new("node").arg("--version").output();
    if !node.is_ok_and(|said| said.status.success()) {
        let _untold = writeln!(std::io::stderr(), "SKIPPED: there is no node");
        return;
    }
    let port = free_port();
    let world = serving_with(
        "app.js",
        "node",
        &format!("\"127.0.0.1:{port}\""),
        "exec_mode = \"fork\"",
    );
    found_when_it_hangs(&world, port, "", "");
}

#[test]
fn a_server_on_a_unix_socket_is_hung() {
    let world = serving("\"unix:a.sock\"", "");
    let before = world.pids("a")[0];
    let path = world.path().join("a.sock");
    world.file("stop", "sleep");
    let open = || std::os::unix::net::UnixStream::connect(&path).unwrap();
    assert_eq!(ask(open()), Some(before));
    let waiting = request(open());
    becomes_unhealthy(
        &world,
        &format!("for 1s on unix:{} and none was accepted", path.display()),
    );
    is_replaced(&world, before);
    assert!(answer(waiting).is_some_and(|pid| pid != before));
}

#[test]
fn one_of_several_that_hangs_is_replaced_and_the_others_stay() {
    let port = free_port();
    let world = serving(&format!("\"127.0.0.1:{port}\""), "instances = 2");
    let before = world.pids("a");
    world.file("stop", "SIGSTOP");
    let first = ask(connect(port)).unwrap();
    assert!(before.contains(&first));
    // Clients that come again and again, so that somebody waits for the one that is stopped.
    let (done, failed) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let served = ask(connect(port));
                    failed.fetch_add(usize::from(served.is_none()), Ordering::Relaxed);
                }
            });
        }
        let found = eventually(&mut || world.pids("a").iter().all(|pid| *pid != first && *pid != 0));
        done.store(true, Ordering::Relaxed);
        assert!(found, "{}", world.report());
    });
    assert_eq!(failed.load(Ordering::Relaxed), 0);
    assert!(before.iter().filter(|pid| **pid != first).all(|pid| lives(*pid)));
    assert_eq!(reasons(&world).len(), 1);
}

/// So many wait at any time that each waits for longer than the `hang_timeout`.
#[track_caller]
fn is_not_taken_for_hung(more: &str) {
    let port = free_port();
    let world = serving(&format!("\"127.0.0.1:{port}\""), more);
    let before = world.pids("a");
    world.file("work", "0.15");
    let (done, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..40 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    if ask(connect(port)).is_some() {
                        served.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        let enough = eventually(&mut || served.load(Ordering::Relaxed) > 50);
        let (known, pids) = (reasons(&world), world.pids("a"));
        done.store(true, Ordering::Relaxed);
        world.file("work", "0");
        assert!(
            enough && known.is_empty() && pids == before,
            "{known:?}\n{}",
            world.report()
        );
    });
    assert_eq!(known(&world, 0)["state"], "healthy");
}

#[test]
fn a_slow_server_with_a_queue_that_never_empties_is_not_hung() {
    is_not_taken_for_hung("");
}

#[test]
fn slow_servers_with_a_queue_each_are_not_hung() {
    is_not_taken_for_hung("instances = 2");
}

#[test]
fn slow_servers_with_one_queue_are_not_hung() {
    is_not_taken_for_hung("instances = 2\nbalance = \"shared\"");
}
