//! Sockets that belong to the manager: handed to apps, alive while anybody of keeper, daemon and instances is, and
//! given back when the app needs them no more.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::Value;

use crate::harness::{PATIENCE, World, finish, free_port, lives};

/// Answers every request on every inherited socket with its pid and the socket's name, as any program that knows the
/// convention does. With the file `stuck` it accepts nothing.
const SERVER: &str = r#"
import os, select, socket, sys, time
assert os.environ["LISTEN_PID"] == str(os.getpid()), os.environ
count = int(os.environ["LISTEN_FDS"])
names = os.environ["LISTEN_FDNAMES"].split(":")
assert len(names) == count
socks = {3 + i: socket.socket(fileno=3 + i) for i in range(count)}
assert not any(os.get_blocking(fd) for fd in socks)
print("arguments", sys.argv[1:], "port", os.environ.get("PORT"), os.environ.get("WHERE"), flush=True)
while os.path.exists("stuck"): time.sleep(0.01)
while True:
    ready, _, _ = select.select(list(socks), [], [])
    for fd in ready:
        body = f"{os.getpid()} {names[fd - 3]}\n".encode()
        if socks[fd].type == socket.SOCK_DGRAM:
            data, peer = socks[fd].recvfrom(100)
            socks[fd].sendto(body, peer)
            continue
        try: client, _ = socks[fd].accept()
        except BlockingIOError: continue
        client.setblocking(True)
        client.recv(4096)
        client.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + body)
        client.close()
"#;

/// A world with the server in it.
pub fn world() -> World {
    let world = World::new();
    world.file("server.py", SERVER);
    world
}

pub fn app(world: &World, name: &str, listen: &str, more: &str) -> String {
    let server = world.path().join("server.py");
    format!(
        "[[apps]]\nname = \"{name}\"\nscript = {server:?}\ninterpreter = \"/usr/bin/python3\"\nlisten = {listen}\n{more}\n"
    )
}

/// The first line of a body: pid and name.
pub fn ask(mut stream: impl Read + Write) -> Option<(i64, String)> {
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    answer(stream)
}

pub fn answer(mut stream: impl Read) -> Option<(i64, String)> {
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (pid, name) = text.split_once("\r\n\r\n")?.1.trim().split_once(' ')?;
    Some((pid.parse().ok()?, name.to_owned()))
}

pub fn connect(port: u16) -> Option<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    Some(stream)
}

#[track_caller]
pub fn get(port: u16) -> (i64, String) {
    ask(connect(port).unwrap()).unwrap()
}

pub fn listeners(world: &World, name: &str) -> Vec<Value> {
    world.describe(name)["status"]["listeners"]
        .as_array()
        .cloned()
        .unwrap_or_default()
}

pub fn port_of(world: &World, name: &str) -> u16 {
    let found = listeners(world, name);
    u16::try_from(found[0]["port"].as_u64().unwrap()).unwrap()
}

/// Kills the daemon and waits until another works.
pub fn kill_daemon(world: &World) {
    let (daemon, _) = world.manager();
    assert!(world.kill9(daemon));
    world.until("the daemon's end", || !lives(daemon));
    assert_ne!(world.manager().0, daemon);
}

pub fn kill_keeper(world: &World) {
    let (daemon, keeper) = world.manager();
    assert!(world.kill9(keeper));
    world.until("another keeper", || world.manager().1 != keeper);
    assert_eq!(world.manager().0, daemon);
}

#[test]
fn an_app_learns_everything_about_its_sockets() {
    let world = world();
    let port = free_port();
    world.file(
        "ecosystem.toml",
        &app(
            &world,
            "a",
            &format!("[{{ tcp = \"127.0.0.1:{port}\", name = \"http\" }}, \"unix:sub.sock\"]"),
            "args = [\"--fd={fd:http}\", \"{fd:sub.sock}\", \"--port={port}\"]\nenv = { WHERE = \"at {port:http}\" }",
        ),
    );
    world.run(&["start"]).ok();
    let pid = world.pids("a")[0];
    assert_eq!(get(port), (pid, "http".to_owned()));
    let unix = UnixStream::connect(world.path().join("sub.sock")).unwrap();
    assert_eq!(ask(unix), Some((pid, "sub.sock".to_owned())));
    world.until("its first line", || !world.run(&["logs", "a", "--raw"]).out.is_empty());
    let said = world.run(&["logs", "a"]).ok().out;
    let expected = format!("arguments ['--fd=3', '4', '--port={port}'] port {port} at {port}");
    assert!(said.contains(&expected), "{said}");
    let shown = world.run(&["describe", "a"]).ok().out;
    assert!(shown.contains(&format!("127.0.0.1:{port} (named http)")), "{shown}");
    let found = listeners(&world, "a");
    assert_eq!(found[0]["address"], format!("127.0.0.1:{port}"));
    assert_eq!(
        (&found[0]["name"], &found[0]["bound"], &found[0]["queued"]),
        (&"http".into(), &true.into(), &0.into())
    );
    assert_eq!(world.status()["apps"][0]["listeners"][1]["name"], "sub.sock");
}

#[test]
fn what_waits_is_served_by_the_replacement() {
    let world = world();
    let port = free_port();
    world
        .run(&[
            "start",
            "/usr/bin/python3 server.py",
            "--name",
            "a",
            "--listen",
            &format!("127.0.0.1:{port}"),
        ])
        .ok();
    let first = get(port).0;
    world.file("stuck", "");
    world.run(&["restart", "a"]).ok();
    let stuck = world.pids("a")[0];
    assert_ne!(stuck, first);
    let mut waiting: Vec<TcpStream> = (0..20).map(|_| connect(port).unwrap()).collect();
    for stream in &mut waiting {
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    }
    world.until("a queue", || listeners(&world, "a")[0]["queued"] == 20);
    // Dead before it may accept one.
    assert!(world.kill9(stuck));
    world.until("its end", || !lives(stuck));
    std::fs::remove_file(world.path().join("stuck")).unwrap();
    for stream in waiting {
        let (pid, _) = answer(stream).unwrap();
        assert_ne!(pid, stuck);
    }
}

#[test]
fn no_request_fails_while_daemon_and_keeper_are_killed() {
    let world = world();
    world.file(
        "ecosystem.toml",
        &app(&world, "a", "[\"127.0.0.1:0\"]", "instances = 2"),
    );
    world.run(&["start"]).ok();
    let port = port_of(&world, "a");
    let pids = world.pids("a");
    let (done, failed) = (AtomicBool::new(false), AtomicUsize::new(0));
    let asked = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let good = connect(port).and_then(ask).is_some_and(|(pid, _)| pids.contains(&pid));
                    asked.fetch_add(1, Ordering::Relaxed);
                    failed.fetch_add(usize::from(!good), Ordering::Relaxed);
                }
            });
        }
        // The threads end when this does, also by a failed assertion.
        let _end = End(&done);
        for kill in [
            kill_daemon,
            kill_keeper,
            kill_daemon,
            World::kill_both,
            kill_daemon,
            kill_keeper,
            World::kill_both,
        ] {
            kill(&world);
            let before = asked.load(Ordering::Relaxed);
            assert_eq!(port_of(&world, "a"), port);
            assert_eq!(world.pids("a"), pids);
            world.until("more requests", || asked.load(Ordering::Relaxed) > before + 10);
        }
    });
    assert_eq!(
        (failed.load(Ordering::Relaxed), asked.load(Ordering::Relaxed) > 70),
        (0, true)
    );
    // The socket is the same to those that start now.
    world.run(&["scale", "a", "3"]).ok();
    let new = world.pids("a")[2];
    for pid in &pids {
        assert!(world.kill9(*pid));
    }
    world.until("an answer of the new one", || get(port).0 == new);
}

/// Says that it is over when it is dropped.
pub struct End<'a>(pub &'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_queue_survives_although_no_instance_lives() {
    let world = world();
    let law = "min_uptime = \"1h\"\nbackoff = { first = \"1h\", max = \"1h\" }";
    world.file("stuck", "");
    world.file("ecosystem.toml", &app(&world, "a", "\"127.0.0.1:0\"", law));
    world.run(&["start"]).ok();
    let port = port_of(&world, "a");
    let mut waiting: Vec<TcpStream> = (0..5).map(|_| connect(port).unwrap()).collect();
    for stream in &mut waiting {
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    }
    assert!(world.kill9(world.pids("a")[0]));
    world.until("backoff", || world.states("a") == ["backoff"]);
    // Only the keeper has it, then only the daemon, then only the new keeper.
    for kill in [kill_daemon, kill_keeper, kill_daemon] {
        kill(&world);
        assert_eq!(world.states("a"), ["backoff"]);
        assert_eq!(listeners(&world, "a")[0]["queued"], 5);
    }
    std::fs::remove_file(world.path().join("stuck")).unwrap();
    world.run(&["restart", "a"]).ok();
    for stream in waiting {
        assert_eq!(answer(stream).unwrap().0, world.pids("a")[0]);
    }
}

#[test]
fn a_queue_survives_the_death_of_both() {
    let world = world();
    world.file("stuck", "");
    world.file("ecosystem.toml", &app(&world, "a", "\"127.0.0.1:0\"", ""));
    world.run(&["start"]).ok();
    let port = port_of(&world, "a");
    let mut waiting: Vec<TcpStream> = (0..5).map(|_| connect(port).unwrap()).collect();
    for stream in &mut waiting {
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    }
    let old = world.pids("a")[0];
    world.kill_both();
    // Taken back from the instance: it may go now.
    world.run(&["restart", "a"]).ok();
    std::fs::remove_file(world.path().join("stuck")).unwrap();
    let new = world.pids("a")[0];
    assert_ne!(new, old);
    for stream in waiting {
        assert_eq!(answer(stream).unwrap().0, new);
    }
}

#[test]
fn a_reload_drops_nothing_although_instances_share_a_port() {
    let world = world();
    world.file(
        "ecosystem.toml",
        &app(
            &world,
            "a",
            "\"127.0.0.1:0\"",
            "instances = 2\nrollout = { min_healthy = \"50ms\" }",
        ),
    );
    world.run(&["start"]).ok();
    let (port, old) = (port_of(&world, "a"), world.pids("a"));
    let reload = world.begin(&["reload", "a"]);
    world.until("answers of new ones only", || {
        // New ones come first: somebody answers all the time.
        assert!(connect(port).is_some());
        let now = world.pids("a");
        now.iter().all(|pid| *pid > 0 && !old.contains(pid))
    });
    finish(reload, &["reload"]).ok();
    let kinds: Vec<String> = world
        .events()
        .iter()
        .map(|event| event["kind"].as_str().unwrap().to_owned())
        .filter(|kind| ["started", "exited"].contains(&kind.as_str()))
        .collect();
    assert_eq!(kinds[..4], ["started", "started", "started", "exited"], "new first");
    assert_eq!(port_of(&world, "a"), port);
    assert!(world.pids("a").contains(&get(port).0));
}

#[test]
fn the_channel_and_the_readiness_pipe_come_after_the_sockets() {
    let world = world();
    world.file(
        "ipc.py",
        "import os, socket, time\nassert os.environ['LISTEN_FDS'] == '2' and os.environ['NODE_CHANNEL_FD'] == '5'\n\
         socket.socket(fileno=5).sendall(b'\"ready\"\\n')\ntime.sleep(1000)\n",
    );
    world.file(
        "ecosystem.toml",
        "[[apps]]\nname = \"a\"\nscript = \"ipc.py\"\ninterpreter = \"/usr/bin/python3\"\nwait_ready = true\n\
         listen = [\"127.0.0.1:0\", \"unix:a.sock\"]\n",
    );
    world.run(&["start"]).ok();
    assert_eq!(world.states("a"), ["online"]);
    world.file(
        "fd.py",
        "import os, time\nos.write(int(os.environ['LISTEN_FDS']) + 3, b'x')\ntime.sleep(1000)\n",
    );
    world.file(
        "ecosystem.toml",
        "[[apps]]\nname = \"b\"\nscript = \"fd.py\"\ninterpreter = \"/usr/bin/python3\"\nready = \"fd:4\"\n\
         shutdown_with_message = true\nkill_timeout = \"100ms\"\nlisten = \"127.0.0.1:0\"\n",
    );
    world.run(&["start"]).ok();
    assert_eq!(world.states("b"), ["online"]);
    let env = world.run(&["env", "b", "--json", "--reveal"]).ok().json();
    assert_eq!(env[0]["env"]["NODE_CHANNEL_FD"], "5");
    assert_eq!(env[0]["env"]["LISTEN_FDNAMES"], "tcp");
}

#[test]
fn readiness_by_http_asks_the_port_that_the_kernel_chose() {
    let world = world();
    world.file(
        "ecosystem.toml",
        &app(
            &world,
            "a",
            "\"127.0.0.1:0\"",
            "ready = { http = \"http://127.0.0.1:{port}/\" }",
        ),
    );
    world.run(&["start"]).ok();
    assert_eq!(world.states("a"), ["online"]);
}

#[test]
fn node_listens_on_its_descriptor() {
    let world = World::new();
    let node = std::process::Command::new("node").arg("--version").output();
    if !node.is_ok_and(|said| said.status.success()) {
        let _untold = writeln!(std::io::stderr(), "SKIPPED: there is no node here");
        return;
    }
    world.file(
        "server.js",
        "require('http').createServer((q, s) => s.end(process.pid + ' node\\n')).listen({ fd: 3 })",
    );
    world
        .run(&[
            "start",
            "server.js",
            "--name",
            "n",
            "-i",
            "2",
            "--listen",
            "127.0.0.1:0",
        ])
        .ok();
    let port = port_of(&world, "n");
    let asked = || {
        let mut stream = connect(port)?;
        stream
            .write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            .ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        text.contains("200 OK").then_some(())
    };
    asked().unwrap();
    world.kill_both();
    asked().unwrap();
    world.run(&["reload", "n"]).ok();
    asked().unwrap();
}

#[test]
fn what_cannot_be_taken_back_is_said_once() {
    let world = world();
    // The socket under another number: nobody can know.
    world.file(
        "moved.py",
        "import os, socket\nos.dup2(3, 10); os.close(3)\nserver = socket.socket(fileno=10); server.setblocking(True)\n\
         while True:\n    client, _ = server.accept()\n    client.recv(4096)\n\
         \x20   client.sendall(b'HTTP/1.0 200 OK\\r\\n\\r\\n' + f'{os.getpid()} moved\\n'.encode())\n    client.close()\n",
    );
    world
        .run(&[
            "start",
            "/usr/bin/python3 moved.py",
            "--name",
            "a",
            "--listen",
            "127.0.0.1:0",
        ])
        .ok();
    let (port, pid) = (port_of(&world, "a"), world.pids("a")[0]);
    assert_eq!(get(port).0, pid);
    world.kill_both();
    assert_eq!(world.pids("a"), [pid]);
    kill_daemon(&world);
    assert_eq!(get(port).0, pid);
    let said: Vec<String> = world
        .events()
        .iter()
        .filter(|event| event["kind"] == "listener_lost")
        .map(|event| event["message"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].contains("127.0.0.1:0 of a") && said[0].contains(&pid.to_string()),
        "{said:?}"
    );
    world.run(&["restart", "a"]).ok();
    assert_eq!(port_of(&world, "a"), port);
    assert_eq!(get(port).0, world.pids("a")[0]);
}
