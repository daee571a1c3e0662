//! Sockets that belong to the manager: handed to apps, alive while anybody of keeper, daemon and instances is, and
//! given back when the app needs them no more.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
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
fn an_address_that_is_taken_is_refused_with_its_holder() {
    let world = world();
    let port = free_port();
    let me = std::process::id();
    let taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let listen = format!("127.0.0.1:{port}");
    let start = [
        "start",
        "/usr/bin/python3 server.py",
        "--name",
        "a",
        "--listen",
        &listen,
    ];
    let said = world
        .run(&start)
        .refused(1, &format!("cannot listen on {listen}: it is in use by process {me} ("));
    assert!(said.err.contains("hint: stop that process"), "{}", said.err);
    assert_eq!(world.status()["apps"].as_array().unwrap().len(), 0, "nothing changed");
    drop(taken);
    world.run(&start).ok();
    let everywhere = format!("0.0.0.0:{port}");
    world
        .run(&[
            "start",
            "/usr/bin/python3 server.py",
            "--name",
            "b",
            "--listen",
            &everywhere,
        ])
        .refused(1, &format!("cannot listen on {everywhere}: the app a has {listen}"));
    // A process of an app that binds by itself.
    let other = free_port();
    let own = format!("import socket, time; s = socket.create_server((\"127.0.0.1\", {other})); time.sleep(1000)");
    world
        .run(&[
            "start",
            "/usr/bin/python3",
            "--name",
            "own",
            "--ready",
            "listen",
            "--",
            "-c",
            &own,
        ])
        .ok();
    let holder = format!(
        "it is in use by process {} (python3), which is own:0",
        world.pids("own")[0]
    );
    world
        .run(&[
            "start",
            "/usr/bin/python3 server.py",
            "--name",
            "b",
            "--listen",
            &format!("127.0.0.1:{other}"),
        ])
        .refused(1, &holder);
    // A file is no socket; a folder that is not there has none.
    let file = world.file("plain", "");
    world
        .run(&[
            "start",
            "/usr/bin/python3 server.py",
            "--name",
            "b",
            "--listen",
            &format!("unix:{}", file.display()),
        ])
        .refused(1, "exists and is not a socket");
    world
        .run(&[
            "start",
            "/usr/bin/python3 server.py",
            "--name",
            "b",
            "--listen",
            "unix:no/such/folder",
        ])
        .refused(1, "no/such does not exist");
    assert_eq!(world.status()["apps"].as_array().unwrap().len(), 2);
    assert_eq!(get(port).0, world.pids("a")[0]);
}

#[test]
fn a_refused_reload_leaves_everything_as_it_was() {
    let world = world();
    let (port, other) = (free_port(), free_port());
    world.file(
        "ecosystem.toml",
        &app(&world, "a", &format!("\"127.0.0.1:{port}\""), ""),
    );
    world.run(&["start"]).ok();
    let pid = world.pids("a")[0];
    let taken = TcpListener::bind(("127.0.0.1", other)).unwrap();
    let both = format!("[\"127.0.0.1:{port}\", \"127.0.0.1:{other}\"]");
    world.file(
        "ecosystem.toml",
        &app(&world, "a", &both, "rollout = { min_healthy = \"50ms\" }"),
    );
    world
        .run(&["start"])
        .refused(1, &format!("cannot listen on 127.0.0.1:{other}"));
    assert_eq!((world.pids("a")[0], get(port).0), (pid, pid));
    drop(taken);
    // Now it is free: added by a rollout, and taken away by the next.
    world.run(&["start"]).ok();
    let second = world.pids("a")[0];
    assert!(second != pid && get(port).0 == second && get(other).0 == second);
    world.file(
        "ecosystem.toml",
        &app(
            &world,
            "a",
            &format!("[\"127.0.0.1:{other}\"]"),
            "rollout = { min_healthy = \"50ms\" }",
        ),
    );
    world.run(&["start"]).ok();
    assert!(connect(port).is_none(), "given back");
    assert_eq!(get(other).0, world.pids("a")[0]);
    // One that excludes its own former address.
    world.file(
        "ecosystem.toml",
        &app(&world, "a", &format!("[\"0.0.0.0:{other}\"]"), ""),
    );
    world.run(&["start"]).refused(1, "this app still has");
    assert!(world.pids("a")[0] > 0);
}

#[test]
fn a_rollback_keeps_the_old_sockets_and_gives_the_new_ones_back() {
    let world = world();
    let (port, other) = (free_port(), free_port());
    world.file(
        "ecosystem.toml",
        &app(&world, "a", &format!("\"127.0.0.1:{port}\""), ""),
    );
    world.run(&["start"]).ok();
    let pid = world.pids("a")[0];
    let text = format!(
        "[[apps]]\nname = \"a\"\ncmd = [\"sh\", \"-c\", \"exit 1\"]\nlisten = \"127.0.0.1:{other}\"\nrollout = {{ order = \"start-first\", min_healthy = \"500ms\" }}\n"
    );
    world.file("ecosystem.toml", &text);
    assert_ne!(world.run(&["start"]).code, 0);
    assert_eq!((world.pids("a")[0], get(port).0), (pid, pid));
    assert!(connect(other).is_none(), "given back");
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
    assert_eq!(port_of(&world, "a"), port);
    assert!(world.pids("a").contains(&get(port).0));
}

#[test]
fn a_stopped_app_gives_its_addresses_back() {
    let world = world();
    let path = world.path().join("a.sock");
    world.file(
        "ecosystem.toml",
        &app(&world, "a", "[\"127.0.0.1:0\", \"unix:a.sock\"]", ""),
    );
    world.run(&["start"]).ok();
    let port = port_of(&world, "a");
    for _ in 0..3 {
        world.run(&["restart", "a"]).ok();
        assert_eq!(port_of(&world, "a"), port, "kept open");
        assert!(UnixStream::connect(&path).is_ok());
    }
    for verb in ["stop", "delete"] {
        world.run(&[verb, "a"]).ok();
        // Without SO_REUSEADDR nothing may be left of it.
        let bound =
            rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None).unwrap();
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
        rustix::net::bind(&bound, &address).unwrap();
        assert!(!path.exists());
        drop(bound);
        if verb == "stop" {
            assert_eq!(listeners(&world, "a")[0]["bound"], false);
            world.run(&["start", "a"]).ok();
            assert_eq!(port_of(&world, "a"), port, "the same again");
        }
    }
    world.run(&["start"]).ok();
    world.run(&["stop", "a:0"]).ok();
    assert!(!path.exists(), "of the last instance");
    world.run(&["start", "a"]).ok();
    assert!(path.exists());
    world.run(&["kill"]).ok();
    assert!(!path.exists());
}

#[test]
fn both_families_and_datagrams() {
    let world = world();
    if TcpListener::bind("[::1]:0").is_err() {
        let _untold = writeln!(std::io::stderr(), "SKIPPED: there is no IPv6 here");
        return;
    }
    let port = free_port();
    let listen = format!("[\"0.0.0.0:{port}\", \"[::]:{port}\", \"udp:127.0.0.1:0\"]");
    world.file("ecosystem.toml", &app(&world, "two", &listen, ""));
    world.run(&["start"]).ok();
    assert_eq!(get(port).0, world.pids("two")[0]);
    let six = ask(TcpStream::connect(("::1", port)).unwrap()).unwrap();
    assert_eq!(six.0, world.pids("two")[0]);
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.set_read_timeout(Some(PATIENCE)).unwrap();
    let to = listeners(&world, "two")[2]["port"].as_u64().unwrap();
    udp.send_to(b"x", ("127.0.0.1", u16::try_from(to).unwrap())).unwrap();
    let mut text = [0; 64];
    let length = udp.recv(&mut text).unwrap();
    assert_eq!(text[..length], *format!("{} udp\n", six.0).as_bytes());
    // Alone, [::] is for both.
    world.file("ecosystem.toml", &app(&world, "one", "\"[::]:0\"", ""));
    world.run(&["start"]).ok();
    assert_eq!(get(port_of(&world, "one")).0, world.pids("one")[0]);
}

#[test]
fn a_unix_socket_has_its_mode_and_replaces_what_is_stale() {
    let world = world();
    let path = world.path().join("a.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    world.file(
        "ecosystem.toml",
        &app(
            &world,
            "a",
            "{ unix = \"a.sock\", mode = \"0662\", name = \"main\" }",
            "",
        ),
    );
    world.run(&["start"]).ok();
    let file = std::fs::symlink_metadata(&path).unwrap();
    assert!(file.file_type().is_socket());
    assert_eq!(file.permissions().mode() & 0o7777, 0o662);
    let pid = world.pids("a")[0];
    assert_eq!(ask(UnixStream::connect(&path).unwrap()), Some((pid, "main".to_owned())));
    kill_both(&world);
    assert_eq!(world.pids("a"), [pid]);
    assert!(world.kill9(pid));
    world.until("a successor", || ![0, pid].contains(&world.pids("a")[0]));
    assert_eq!(ask(UnixStream::connect(&path).unwrap()).unwrap().0, world.pids("a")[0]);
    world
        .run(&[
            "start",
            "/usr/bin/python3 server.py",
            "--name",
            "b",
            "--listen",
            "unix:a.sock",
        ])
        .refused(1, "the app a has");
    let hidden = format!("unix:@clmgr-{}", world.path().file_name().unwrap().to_string_lossy());
    world
        .run(&[
            "start",
            "/usr/bin/python3 server.py",
            "--name",
            "b",
            "--listen",
            &hidden,
        ])
        .ok();
    world
        .run(&[
            "start",
            "/usr/bin/python3 server.py",
            "--name",
            "c",
            "--listen",
            &hidden,
        ])
        .refused(1, "the app b has");
}

#[test]
fn what_was_taken_while_nobody_held_it_fails_by_the_restart_law() {
    let world = world();
    let law = "max_restarts = 1000\nbackoff = { first = \"50ms\", max = \"50ms\" }";
    world.file("ecosystem.toml", &app(&world, "a", "\"127.0.0.1:0\"", law));
    world.run(&["start"]).ok();
    let (port, pid) = (port_of(&world, "a"), world.pids("a")[0]);
    let listen = format!("\"127.0.0.1:{port}\"");
    world.file("ecosystem.toml", &app(&world, "a", &listen, law));
    world.run(&["delete", "a"]).ok();
    world.run(&["start"]).ok();
    let second = world.pids("a")[0];
    assert_ne!(pid, second);
    kill_both(&world);
    assert!(world.kill9(second));
    world.until("its end", || !lives(second));
    let taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let me = format!(
        "cannot listen on 127.0.0.1:{port}: it is in use by process {}",
        std::process::id()
    );
    world.until("the reason", || {
        world.describe("a")["reason"]
            .as_str()
            .is_some_and(|reason| reason.contains(&me))
    });
    assert!(world.count_events("spawn_failed", "a") > 0);
    drop(taken);
    world.until("its start", || world.states("a") == ["online"]);
    assert_eq!(get(port).0, world.pids("a")[0]);
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
    assert_eq!(
        world.run(&["env", "b", "--json", "--reveal"]).ok().json()["env"]["NODE_CHANNEL_FD"],
        "5"
    );
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
    kill_both(&world);
    asked().unwrap();
    world.run(&["reload", "n"]).ok();
    asked().unwrap();
}
