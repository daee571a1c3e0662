//! Which addresses an app can have: those that are taken are refused with their holder, those that are not needed are
//! given back.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;

use crate::harness::{PATIENCE, free_port, lives};
use crate::listen::{app, ask, connect, get, listeners, port_of, world};

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
    world.kill_both();
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
    world.kill_both();
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
