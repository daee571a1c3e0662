//! Connections are spread over the instances as `balance` says, and none is lost while instances come and go.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::net::{AddressFamily, SocketType, sockopt};
use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{PATIENCE, World, free_port, lives};
use crate::listen::{answer, app, ask, connect, get, kill_daemon, kill_keeper, listeners, port_of, world};

/// Ends well: what it has accepted is answered before it goes.
const GRACEFUL: &str = r#"
import os, select, signal, socket, sys
over = []
reader, writer = os.pipe()
os.set_blocking(writer, False)
signal.signal(signal.SIGTERM, lambda *_: over.append(1))
signal.set_wakeup_fd(writer)
sock = socket.socket(fileno=3)
while not over:
    ready, _, _ = select.select([sock, reader], [], [])
    if sock not in ready: continue
    try: client, _ = sock.accept()
    except BlockingIOError: continue
    client.setblocking(True)
    client.recv(4096)
    client.sendall(f"HTTP/1.0 200 OK\r\n\r\n{os.getpid()} x\n".encode())
    client.close()
"#;

fn start(world: &World, more: &str) -> u16 {
    world.file("ecosystem.toml", &app(world, "a", "\"127.0.0.1:0\"", more));
    world.run(&["start"]).ok();
    port_of(world, "a")
}

/// Connects from an address of this machine's loopback network.
fn connect_from(source: [u8; 4], port: u16) -> TcpStream {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &SocketAddr::new(Ipv4Addr::from(source).into(), 0)).unwrap();
    rustix::net::connect(&socket, &SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// How many of so many connections each process answers.
fn spread(port: u16, count: usize) -> BTreeMap<i64, usize> {
    let mut counts = BTreeMap::new();
    for _ in 0..count {
        *counts.entry(get(port).0).or_insert(0) += 1;
    }
    counts
}

/// Opens connections, each with a request, until so many wait for a slot.
fn fill(world: &World, port: u16, slot: usize, count: u64) -> Vec<TcpStream> {
    let mut waiting = Vec::new();
    world.until("a queue", || {
        for _ in 0..10 {
            let mut stream = connect(port).unwrap();
            stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
            waiting.push(stream);
        }
        listeners(world, "a")[0]["slots"][slot]["queued"].as_u64().unwrap() >= count
    });
    waiting
}

fn in_rotation(world: &World) -> Vec<bool> {
    let slots = listeners(world, "a")[0]["slots"].clone();
    let slots = slots.as_array().cloned().unwrap_or_default();
    slots.iter().map(|slot| slot["in_rotation"] == true).collect()
}

/// Inode numbers of the sockets of a process.
fn sockets(pid: i64) -> BTreeSet<String> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let links = entries.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    let texts = links.map(|link| link.to_string_lossy().into_owned());
    texts.filter(|text| text.starts_with("socket:")).collect()
}

#[test]
fn connections_are_spread_over_all() {
    for balance in ["even", "random", "round-robin"] {
        let world = world();
        let port = start(&world, &format!("instances = 4\nbalance = \"{balance}\""));
        let counts = spread(port, 400);
        let pids: BTreeSet<i64> = world.pids("a").into_iter().collect();
        assert_eq!(counts.keys().copied().collect::<BTreeSet<i64>>(), pids, "{balance}");
        let shown = listeners(&world, "a")[0].clone();
        if shown["balance"] == "round-robin" {
            assert!(counts.values().all(|count| *count == 100), "{counts:?}");
        } else {
            // Seven standard deviations.
            assert!(
                counts.values().all(|count| (40..=160).contains(count)),
                "{balance} {counts:?}"
            );
        }
        let text = world.run(&["describe", "a"]).ok().out;
        if shown["balance"] == balance {
            assert!(
                shown.get("wanted_balance").is_none() && text.contains(balance),
                "{text}"
            );
        } else {
            assert_eq!(
                (&shown["balance"], &shown["wanted_balance"]),
                (&"even".into(), &balance.into())
            );
            assert!(shown["balance_reason"].as_str().unwrap().contains("CAP_BPF"));
            assert!(text.contains("even instead of round-robin"), "{text}");
        }
        assert_eq!(in_rotation(&world), [true; 4]);
    }
}

#[test]
fn one_queue_is_enough_where_that_is_wanted() {
    let world = world();
    let port = start(&world, "instances = 2\nbalance = \"shared\"");
    get(port);
    let shown = listeners(&world, "a")[0].clone();
    assert!(
        shown.get("slots").is_none() && shown.get("balance").is_none(),
        "{shown}"
    );
    let holders = |pid: i64| sockets(pid);
    let pids = world.pids("a");
    assert_eq!(holders(pids[0]).intersection(&holders(pids[1])).count(), 1);
}

#[test]
fn a_client_stays_with_its_instance() {
    let world = world();
    let port = start(&world, "instances = 4\nbalance = \"sticky\"");
    let look = || -> Vec<i64> {
        let one = |client: u8| {
            let pids: BTreeSet<i64> = (0..4)
                .map(|_| ask(connect_from([127, 0, 3, client], port)).unwrap().0)
                .collect();
            assert_eq!(pids.len(), 1, "the client {client}");
            *pids.first().unwrap()
        };
        (1..=60).map(one).collect()
    };
    let before = look();
    assert_eq!(before.iter().collect::<BTreeSet<_>>().len(), 4);
    world.run(&["scale", "a", "5"]).ok();
    world.until("the new one in rotation", || in_rotation(&world) == [true; 5]);
    let new = world.pids("a")[4];
    let after = look();
    assert!(
        before
            .iter()
            .zip(&after)
            .all(|(before, after)| before == after || *after == new)
    );
    let moved = after.iter().filter(|pid| **pid == new).count();
    assert!((1..=30).contains(&moved), "{moved} of 60 moved");
}

#[test]
fn what_waits_for_a_dead_instance_is_served_by_its_successor() {
    let world = world();
    let port = start(&world, "instances = 2\nmin_uptime = \"1ms\"");
    let stuck = world.pids("a")[1];
    get(port);
    world.signal(stuck, Signal::STOP);
    let mut waiting = fill(&world, port, 1, 8);
    assert!(world.kill9(stuck));
    world.until("its end", || !lives(stuck));
    let answers: Vec<i64> = waiting.drain(..).map(|stream| answer(stream).unwrap().0).collect();
    let pids = world.pids("a");
    assert!(answers.iter().all(|pid| pids.contains(pid)), "{answers:?} {pids:?}");
    assert!(
        answers.iter().filter(|pid| **pid == pids[1]).count() >= 8,
        "{answers:?} {pids:?}"
    );
}

#[test]
fn what_waits_where_nobody_comes_is_passed_on() {
    let world = world();
    let law = "min_uptime = \"1h\"\nbackoff = { first = \"1h\", max = \"1h\" }";
    let port = start(&world, &format!("instances = 2\n{law}"));
    let pids = world.pids("a");
    world.signal(pids[1], Signal::STOP);
    let waiting = fill(&world, port, 1, 8);
    assert!(world.kill9(pids[1]));
    world.until("backoff", || world.states("a")[1] == "backoff");
    for stream in waiting {
        assert_eq!(answer(stream).unwrap().0, pids[0]);
    }
    assert_eq!(in_rotation(&world), [true, false]);
    // What is new does not go there at all.
    assert_eq!(spread(port, 50), BTreeMap::from([(pids[0], 50)]));
    world.run(&["restart", "a:1"]).ok();
    world.until("both in rotation", || in_rotation(&world) == [true, true]);
}

#[test]
fn scaling_up_and_down_loses_nothing() {
    let world = world();
    world.file("server.py", GRACEFUL);
    let port = start(&world, "instances = 2");
    let (done, asked, failed) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let good = connect(port).and_then(ask).is_some();
                    asked.fetch_add(1, Ordering::Relaxed);
                    failed.fetch_add(usize::from(!good), Ordering::Relaxed);
                }
            });
        }
        let _end = crate::listen::End(&done);
        for count in ["8", "2", "5", "1", "3"] {
            world.run(&["scale", "a", count]).ok();
            let before = asked.load(Ordering::Relaxed);
            world.until("more requests", || asked.load(Ordering::Relaxed) > before + 20);
            let count: usize = count.parse().unwrap();
            world.until("only the sockets of its slots", || {
                let slots = in_rotation(&world).len();
                slots == count || count == 1 && slots == 0
            });
        }
    });
    assert_eq!(failed.load(Ordering::Relaxed), 0);
}

#[test]
fn sockets_and_their_selection_survive_every_death() {
    let world = world();
    let port = start(&world, "instances = 4\nbalance = \"random\"");
    let pids = world.pids("a");
    let all: BTreeSet<String> = pids.iter().flat_map(|pid| sockets(*pid)).collect();
    let held = |world: &World| {
        sockets(world.manager().0)
            .intersection(&all)
            .cloned()
            .collect::<BTreeSet<String>>()
    };
    let slots = held(&world);
    assert_eq!(slots.len(), 4);
    // One is out of the rotation, and must stay so.
    world.run(&["stop", "a:3"]).ok();
    let others = BTreeSet::from([pids[0], pids[1], pids[2]]);
    for kill in [kill_daemon, kill_keeper, kill_daemon] {
        kill(&world);
        assert_eq!((held(&world), port_of(&world, "a")), (slots.clone(), port));
        assert_eq!(in_rotation(&world), [true, true, true, false]);
        assert_eq!(spread(port, 60).into_keys().collect::<BTreeSet<i64>>(), others);
    }
    world.run(&["start", "a:3"]).ok();
    world.until("all in rotation", || in_rotation(&world) == [true; 4]);
    let last = world.pids("a")[3];
    world.kill_both();
    assert_eq!((port_of(&world, "a"), held(&world)), (port, slots));
    assert_eq!(
        spread(port, 100).into_keys().collect::<BTreeSet<i64>>(),
        others.iter().copied().chain([last]).collect()
    );
}

#[test]
fn a_hole_that_the_death_of_both_leaves_is_filled() {
    let world = world();
    let port = start(&world, "instances = 4");
    let pids = world.pids("a");
    world.run(&["stop", "a:1"]).ok();
    let others = BTreeSet::from([pids[0], pids[2], pids[3]]);
    // Nobody but the dead has held the socket of the slot 1: the kernel has moved another into its place.
    world.kill_both();
    assert_eq!(spread(port, 60).into_keys().collect::<BTreeSet<i64>>(), others);
    world.run(&["stop", "a:3"]).ok();
    assert_eq!(
        spread(port, 60).into_keys().collect::<BTreeSet<i64>>(),
        [pids[0], pids[2]].into()
    );
    world.run(&["start", "a"]).ok();
    world.until("all in rotation", || in_rotation(&world) == [true; 4]);
    kill_daemon(&world);
    world.run(&["stop", "a:0"]).ok();
    let now = world.pids("a");
    assert_eq!(
        spread(port, 100).into_keys().collect::<BTreeSet<i64>>(),
        now[1..].iter().copied().collect()
    );
}

#[test]
fn somebody_elses_port_is_not_shared() {
    let world = world();
    for reuse in [false, true] {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        sockopt::set_socket_reuseport(&socket, reuse).unwrap();
        rustix::net::bind(&socket, &SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0)).unwrap();
        rustix::net::listen(&socket, 8).unwrap();
        let bound: SocketAddr = rustix::net::getsockname(&socket).unwrap().try_into().unwrap();
        world.file(
            "ecosystem.toml",
            &app(&world, "a", &format!("\"{bound}\""), "instances = 4"),
        );
        world.run(&["start"]).refused(1, "it is in use by process");
        let _held: OwnedFd = socket;
    }
}

#[test]
fn a_change_of_balance_takes_a_reload() {
    let world = world();
    let rollout = "rollout = { min_healthy = \"50ms\" }";
    let port = start(&world, &format!("instances = 3\nbalance = \"shared\"\n{rollout}"));
    assert!(in_rotation(&world).is_empty());
    for (balance, rotation) in [("even", vec![true; 3]), ("shared", vec![])] {
        let more = format!("instances = 3\nbalance = \"{balance}\"\n{rollout}");
        world.file("ecosystem.toml", &app(&world, "a", "\"127.0.0.1:0\"", &more));
        world.run(&["start"]).ok();
        world.until("the sockets it needs", || in_rotation(&world) == rotation);
        get(port);
    }
}

#[test]
fn a_socket_can_be_the_standard_input() {
    let world = world();
    world.file(
        "inetd.py",
        "import os, socket, sys\nassert os.environ.get('LISTEN_FDS') == '1', os.environ\n\
         assert sys.argv[1:] == ['0', '3'], sys.argv\n\
         s = socket.socket(fileno=0)\nwhile True:\n  s.setblocking(True)\n  c, _ = s.accept()\n  c.recv(99)\n\
         \x20 c.sendall(b'HTTP/1.0 200 OK\\r\\n\\r\\n%d stdin\\n' % os.getpid())\n  c.close()\n",
    );
    let port = free_port();
    world.file(
        "ecosystem.toml",
        &format!(
            "[[apps]]\nname = \"a\"\nscript = \"inetd.py\"\ninterpreter = \"/usr/bin/python3\"\n\
             args = [\"{{fd:in}}\", \"{{fd:other}}\"]\nlisten = [{{ tcp = \"127.0.0.1:{port}\", name = \"in\", \
             stdin = true }}, {{ unix = \"o.sock\", name = \"other\", owner = \"0\", group = \"0\", mode = \"0600\" }}]\n"
        ),
    );
    if !rustix::process::geteuid().is_root() {
        let _untold = writeln!(std::io::stderr(), "SKIPPED: only root may give files away");
        return;
    }
    world.run(&["start"]).ok();
    let pid = world.pids("a")[0];
    assert_eq!(get(port), (pid, "stdin".to_owned()));
    world
        .run(&["send", "a", "x"])
        .refused(1, "its standard input is a socket");
    world.kill_both();
    let mut text = String::new();
    let mut stream = connect(port).unwrap();
    stream.write_all(b"x").unwrap();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.contains("stdin"));
    assert_eq!(world.pids("a"), [pid]);
    let found: Vec<Value> = listeners(&world, "a");
    assert_eq!(found.len(), 2);
}

#[test]
fn an_owner_that_there_is_not_is_refused() {
    let world = world();
    world.file(
        "ecosystem.toml",
        &app(&world, "a", "{ unix = \"a.sock\", owner = \"no-such-user\" }", ""),
    );
    let said = world
        .run(&["start"])
        .refused(1, "this machine has no user \"no-such-user\"");
    assert!(said.err.contains("nothing was changed"), "{}", said.err);
    assert!(!world.path().join("a.sock").exists());
}
