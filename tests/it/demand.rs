//! Apps that the first connection starts.

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::Value;

use crate::harness::{PATIENCE, World, free_port, lives};
use crate::listen::{app, ask, connect, get, listeners, port_of, world};

const ON_DEMAND: &str = "start = \"on-demand\"";
const LOCAL: &str = "\"127.0.0.1:0\"";

fn started(world: &World, listen: &str, more: &str) -> String {
    world.file(
        "ecosystem.toml",
        &app(world, "web", listen, &format!("{ON_DEMAND}\n{more}")),
    );
    world.run(&["start", "ecosystem.toml"]).ok().out
}

fn is_waiting(world: &World) -> bool {
    world.states("web").iter().all(|state| state == "waiting") && world.pids("web").iter().all(|pid| *pid == 0)
}

#[test]
fn the_first_connection_starts_it_and_is_served() {
    let world = world();
    let said = started(&world, LOCAL, "");
    let port = port_of(&world, "web");
    assert!(
        said.contains(&format!("waits for the first connection on 127.0.0.1:{port}")),
        "{said}"
    );
    assert!(said.contains("web  1 waiting"), "{said}");
    assert!(is_waiting(&world));
    assert_eq!(world.count_events("started", "web"), 0);
    let (pid, _) = get(port);
    assert_eq!(world.pids("web"), [pid]);
    world.until("it is online", || world.states("web") == ["online"]);
    // From now on it is an app like any other.
    assert_eq!(get(port).0, pid);
    assert_eq!(world.count_events("started", "web"), 1);
    world.run(&["stop", "web"]).ok();
    assert!(connect(port).is_none(), "nobody listens for an app that is stopped");
    world.run(&["start", "web"]).ok();
    assert!(is_waiting(&world));
    assert_ne!(get(port_of(&world, "web")).0, pid);
}

#[test]
fn every_kind_of_socket_starts_it() {
    let world = world();
    let path = world.path().join("web.sock");
    let port = free_port();
    let listen = format!("[\"unix:{}\", \"udp:127.0.0.1:{port}\"]", path.display());
    started(&world, &listen, "instances = 2");
    assert!(is_waiting(&world));
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.connect(("127.0.0.1", port)).unwrap();
    client.send(b"hello").unwrap();
    let mut buffer = [0; 100];
    let count = client.recv(&mut buffer).unwrap();
    assert!(count > 0);
    world.until("both are online", || world.states("web") == ["online", "online"]);
    world.run(&["stop", "web"]).ok();
    world.run(&["start", "web"]).ok();
    assert!(is_waiting(&world));
    assert_eq!(ask(UnixStream::connect(&path).unwrap()).unwrap().1, "web.sock");
}

#[test]
fn it_is_stopped_when_nobody_is_connected_and_started_again() {
    let world = world();
    started(&world, LOCAL, "idle_timeout = \"300ms\"");
    let port = port_of(&world, "web");
    for round in 1..=3 {
        let (pid, _) = get(port);
        world.until("it waits again", || is_waiting(&world));
        assert!(!lives(pid));
        assert_eq!(world.count_events("started", "web"), round);
    }
    assert_eq!(listeners(&world, "web")[0]["bound"], true);
    let restarts: Vec<Value> = world
        .instances("web")
        .iter()
        .map(|one| one["restarts"].clone())
        .collect();
    assert_eq!(restarts, [0]);
}

#[test]
fn an_open_connection_keeps_it() {
    let world = world();
    // Says a word, and another one when it is told to.
    world.file(
        "server.py",
        "import socket\ns = socket.socket(fileno=3)\ns.setblocking(True)\nwhile True:\n  c, _ = s.accept()\n  c.setblocking(True)\n  c.sendall(b'hello')\n  c.recv(9)\n  c.sendall(b'bye')\n  c.close()\n",
    );
    started(&world, LOCAL, "idle_timeout = \"250ms\"");
    let mut stream = connect(port_of(&world, "web")).unwrap();
    let mut word = [0; 5];
    stream.read_exact(&mut word).unwrap();
    let looks = crate::harness::rest;
    // Several times the timeout.
    looks(1500);
    assert_eq!(world.states("web"), ["online"]);
    stream.write_all(b"go").unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "bye");
    drop(stream);
    world.until("it waits again", || is_waiting(&world));
}

/// Nothing that is accepted is ever lost, though the server knows nothing of SIGTERM.
#[test]
fn connections_while_it_is_stopped_for_idleness_are_all_served() {
    let world = world();
    started(&world, LOCAL, "idle_timeout = \"250ms\"\nmin_uptime = 0");
    let port = port_of(&world, "web");
    let (served, failed, over) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for client in 0..4_u64 {
            let (served, failed, over) = (&served, &failed, &over);
            scope.spawn(move || {
                let mut round = 0;
                while !over.load(Ordering::Relaxed) {
                    // Pauses around the timeout, so that many arrive just when it runs out.
                    round += 1;
                    crate::harness::rest(240 + (round * 7 + client * 13) % 60);
                    let counter = if connect(port).and_then(ask).is_some() {
                        served
                    } else {
                        failed
                    };
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let enough = crate::harness::eventually(&mut || {
            world.count_events("stopped", "web") >= 10 || failed.load(Ordering::Relaxed) > 0
        });
        over.store(true, Ordering::Relaxed);
        assert!(enough, "{}", world.report());
    });
    assert_eq!(
        failed.load(Ordering::Relaxed),
        0,
        "of {}",
        served.load(Ordering::Relaxed)
    );
}

#[test]
fn a_broken_app_is_started_as_often_as_the_restart_law_allows_however_many_connect() {
    let world = World::new();
    let port = free_port();
    world.file(
        "ecosystem.toml",
        &format!(
            "[[apps]]\nname = \"web\"\ncmd = [\"sh\", \"-c\", \"exit 9\"]\nlisten = \"127.0.0.1:{port}\"\n{ON_DEMAND}\nidle_timeout = \"250ms\"\nmax_restarts = 3\nbackoff = {{ first = \"10ms\" }}\nbreaker_cooldown = \"never\"\n"
        ),
    );
    world.run(&["start", "ecosystem.toml"]).ok();
    // Some wait, some go away. When the queue is full, nobody gets in any more.
    let at_once = std::time::Duration::from_millis(5);
    let knock = || TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), at_once);
    let kept: Vec<_> = (0..1000).map(|_| knock()).step_by(2).collect();
    world.until("its circuit is open", || world.states("web") == ["errored"]);
    for _ in 0..100 {
        let _whatever = knock();
    }
    drop(kept);
    assert_eq!(world.states("web"), ["errored"]);
    let count = world.count_events("started", "web");
    assert!((1..=3).contains(&count), "{count} were started");
}

#[test]
fn a_daemon_that_is_replaced_goes_on_waiting() {
    let world = world();
    started(&world, LOCAL, "idle_timeout = \"1h\"");
    let port = port_of(&world, "web");
    let (daemon, _) = world.manager();
    assert!(world.kill9(daemon));
    world.until("another daemon", || world.manager().0 != daemon);
    assert!(is_waiting(&world));
    let (pid, _) = get(port);
    // And one that runs goes on running.
    let (daemon, _) = world.manager();
    assert!(world.kill9(daemon));
    world.until("another daemon", || world.manager().0 != daemon);
    assert_eq!(get(port).0, pid);
    assert_eq!(world.states("web"), ["online"]);
    world.run(&["kill"]).ok();
    assert!(!lives(pid));
    world.run(&["resurrect"]).ok();
    world.until("it waits", || is_waiting(&world));
    assert_ne!(get(port_of(&world, "web")).0, pid);
}

#[test]
fn what_waits_while_nobody_manages_is_served() {
    let world = world();
    let port = free_port();
    started(&world, &format!("\"127.0.0.1:{port}\""), "");
    world.kill_both();
    // Nobody holds the socket any more: it is bound again by the next one.
    world.run(&["status"]).ok();
    world.until("it waits", || is_waiting(&world) && connect(port).is_some());
    world.until("it is served", || connect(port).and_then(ask).is_some());
}

#[test]
fn a_changed_file_is_taken_over_without_a_start() {
    let world = world();
    let (first, second) = (free_port(), free_port());
    started(&world, &format!("\"127.0.0.1:{first}\""), "");
    started(&world, &format!("\"127.0.0.1:{second}\""), "env = { WHERE = \"new\" }");
    assert!(is_waiting(&world));
    world.until("the old socket is closed", || connect(first).is_none());
    get(second);
    assert!(world.run(&["logs", "web", "--nostream"]).ok().out.contains("new"));
}

#[test]
fn commands_on_an_app_that_waits_start_nothing() {
    let world = world();
    started(&world, LOCAL, "instances = 2");
    for command in [
        &["restart", "web"][..],
        &["reload", "web"],
        &["start", "web"],
        &["scale", "web", "3"],
    ] {
        let said = world.run(command).ok();
        assert!(
            said.out.contains("waits for the first connection"),
            "{command:?}: {}",
            said.out
        );
    }
    assert!(is_waiting(&world));
    get(port_of(&world, "web"));
    world.until("three are online", || world.states("web") == ["online"; 3]);
}

#[test]
fn a_port_that_is_taken_is_told_at_once() {
    let world = world();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let text = app(&world, "web", &format!("\"127.0.0.1:{port}\""), ON_DEMAND);
    world.file("ecosystem.toml", &text);
    world.run(&["start", "ecosystem.toml"]).refused(1, "cannot listen on");
}
