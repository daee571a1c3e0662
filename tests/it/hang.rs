//! Servers that accept nothing any more are found, and slow ones are not taken for them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::harness::{PATIENCE, World, eventually, free_port, lives};
use crate::health::{becomes_unhealthy, is_replaced, known, reasons};

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
    world.until("it stops, and no other", || !world.path().join("stop").exists());
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
    let world = World::new();
    world.file("app.py", SERVES);
    // Slow, but on a busy machine as well it accepts one in this time.
    world.file(
        "ecosystem.toml",
        &format!("[[apps]]\nname = \"a\"\nscript = \"app.py\"\ninterpreter = \"/usr/bin/python3\"\nlisten = \"127.0.0.1:{port}\"\nhang_timeout = \"3s\"\nkill_timeout = \"1s\"\n{more}\n"),
    );
    world.run(&["start"]).ok();
    let before = world.pids("a");
    world.file("work", "0.2");
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
