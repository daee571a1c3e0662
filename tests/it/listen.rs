//! Sockets that belong to the manager: handed to apps, alive while anybody of keeper, daemon and instances is, and
//! given back when the app needs them no more.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::Value;

use crate::harness::{PATIENCE, World, free_port, lives};

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
fn world() -> World {
    let world = World::new();
    world.file("server.py", SERVER);
    world
}

fn app(world: &World, name: &str, listen: &str, more: &str) -> String {
    let server = world.path().join("server.py");
    format!(
        "[[apps]]\nname = \"{name}\"\nscript = {server:?}\ninterpreter = \"/usr/bin/python3\"\nlisten = {listen}\n{more}\n"
    )
}

/// The first line of a body: pid and name.
fn ask(mut stream: impl Read + Write) -> Option<(i64, String)> {
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    answer(stream)
}

fn answer(mut stream: impl Read) -> Option<(i64, String)> {
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (pid, name) = text.split_once("\r\n\r\n")?.1.trim().split_once(' ')?;
    Some((pid.parse().ok()?, name.to_owned()))
}

fn connect(port: u16) -> Option<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    Some(stream)
}

#[track_caller]
fn get(port: u16) -> (i64, String) {
    ask(connect(port).unwrap()).unwrap()
}

fn listeners(world: &World, name: &str) -> Vec<Value> {
    world.describe(name)["status"]["listeners"]
        .as_array()
        .cloned()
        .unwrap_or_default()
}

fn port_of(world: &World, name: &str) -> u16 {
    let found = listeners(world, name);
    u16::try_from(found[0]["port"].as_u64().unwrap()).unwrap()
}

/// Kills the daemon and waits until another works.
fn kill_daemon(world: &World) {
    let (daemon, _) = world.manager();
    assert!(world.kill9(daemon));
    world.until("the daemon's end", || !lives(daemon));
    assert_ne!(world.manager().0, daemon);
}

fn kill_keeper(world: &World) {
    let (daemon, keeper) = world.manager();
    assert!(world.kill9(keeper));
    world.until("another keeper", || world.manager().1 != keeper);
    assert_eq!(world.manager().0, daemon);
}

/// Kills keeper and daemon so that neither can replace the other.
fn kill_both(world: &World) {
    let (daemon, keeper) = world.manager();
    for signal in [Signal::STOP, Signal::KILL] {
        for pid in [keeper, daemon] {
            let pid = i32::try_from(pid).unwrap();
            assert!(world.processes().contains(&pid) || signal == Signal::KILL);
            let fd = pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap();
            pidfd_send_signal(fd, signal).unwrap();
        }
    }
    world.until("the end of both", || !lives(keeper) && !lives(daemon));
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
    std::fs::remove_file(world.path().join("stuck")).unwrap();
    assert!(world.kill9(stuck));
    for stream in waiting {
        let (pid, _) = answer(stream).unwrap();
        assert_ne!(pid, stuck);
    }
}

#[test]
fn sockets_outlive_daemon_and_keeper() {
    let world = world();
    world.file(
        "ecosystem.toml",
        &app(&world, "a", "[\"127.0.0.1:0\"]", "instances = 2"),
    );
    world.run(&["start"]).ok();
    let port = port_of(&world, "a");
    let pids = world.pids("a");
    for kill in [
        kill_daemon,
        kill_keeper,
        kill_daemon,
        kill_both,
        kill_daemon,
        kill_keeper,
        kill_both,
    ] {
        kill(&world);
        assert!(pids.contains(&get(port).0));
        assert_eq!(port_of(&world, "a"), port);
        assert_eq!(world.pids("a"), pids);
    }
    // The socket is the same to those that start now.
    world.run(&["scale", "a", "3"]).ok();
    let new = world.pids("a")[2];
    for pid in &pids {
        assert!(world.kill9(*pid));
    }
    world.until("an answer of the new one", || get(port).0 == new);
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
    kill_both(&world);
    std::fs::remove_file(world.path().join("stuck")).unwrap();
    // Taken back from the instance: it may go now.
    world.run(&["restart", "a"]).ok();
    for stream in waiting {
        // Those that the old one had accepted before it was stopped are answered by it.
        assert!(answer(stream).is_some());
    }
    assert_ne!(get(port).0, old);
}
