//! While no daemon lives: who connects waits for the next one.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use rustix::process::Signal;

use crate::harness::{PATIENCE, World, finish, lives};

fn ping(world: &World) -> UnixStream {
    let mut stream = UnixStream::connect(world.home().join("clmgr.sock")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
        .write_all(b"GET /v1/ping HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .unwrap();
    stream
}

fn answer(mut stream: UnixStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// Kills the daemon while its keeper cannot start another; says its pid.
fn without_daemon(world: &World, meanwhile: impl FnOnce()) -> i64 {
    let (daemon, keeper) = world.manager();
    world.signal(keeper, Signal::STOP);
    assert!(world.kill9(daemon));
    world.until("the end of the daemon", || !lives(daemon));
    meanwhile();
    world.signal(keeper, Signal::CONT);
    daemon
}

#[test]
fn who_connects_while_no_daemon_lives_is_answered_by_the_next() {
    let world = World::new();
    world.run(&["start", "sleep 1000", "--name", "a"]).ok();
    let pids = world.pids("a");
    let mut waiting = Vec::new();
    let mut command = None;
    let old = without_daemon(&world, || {
        waiting = (0..20).map(|_| ping(&world)).collect();
        command = Some(world.begin(&["scale", "a", "3"]));
        // It waits, too, once it is connected; whether that is before or after makes no difference to it.
    });
    for stream in waiting {
        let text = answer(stream);
        assert!(
            text.starts_with("HTTP/1.1 200") && !text.contains(&format!("\"pid\":{old},")),
            "{text}"
        );
    }
    finish(command.unwrap(), &["scale"]).ok();
    assert_eq!(world.states("a"), ["online"; 3]);
    assert_eq!(world.pids("a")[0], pids[0]);
}

#[test]
fn the_backlog_outlives_the_keeper_that_held_it() {
    let world = World::new();
    world.run(&["start", "sleep 1000", "--name", "a"]).ok();
    let (_, keeper) = world.manager();
    let file = |name: &str| {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(world.home().join(name)).unwrap().ino()
    };
    let before = file("clmgr.sock");
    assert!(world.kill9(keeper));
    world.until("another keeper", || world.manager().1 != keeper);
    let mut waiting = None;
    without_daemon(&world, || waiting = Some(ping(&world)));
    assert!(answer(waiting.unwrap()).starts_with("HTTP/1.1 200"));
    assert_eq!(file("clmgr.sock"), before, "the socket was not made anew");
}

#[test]
fn a_socket_whose_name_is_gone_or_leads_elsewhere_is_made_anew() {
    let world = World::new();
    world.run(&["start", "sleep 1000", "--name", "a"]).ok();
    let path = world.home().join("clmgr.sock");
    let old = without_daemon(&world, || std::fs::remove_file(&path).unwrap());
    assert_ne!(world.manager().0, old);
    let old = without_daemon(&world, || {
        std::fs::remove_file(&path).unwrap();
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    });
    assert_ne!(world.manager().0, old);
    assert_eq!(world.states("a"), ["online"]);
    // It is served by its own file from now on.
    let old = without_daemon(&world, || {});
    assert_ne!(world.manager().0, old);
}

#[test]
fn a_command_that_was_begun_is_not_repeated() {
    let world = World::new();
    // Never ready: the command waits until it is given up.
    world.file(
        "eco.toml",
        "[[apps]]\nname = \"a\"\ncmd = \"sleep 1000\"\nready = { log = \"never\" }\nlisten_timeout = \"1h\"\n",
    );
    world.run(&["resurrect"]).ok();
    let command = world.begin(&["start", "eco.toml"]);
    let (daemon, _) = world.manager();
    world.until("it runs", || world.states("a") == ["starting"]);
    let pid = world.pids("a");
    assert!(world.kill9(daemon));
    let said = finish(command, &["start"]).refused(5, "lost or replaced while this command was running");
    assert!(said.err.contains("clmgr status"), "{}", said.err);
    assert_eq!(world.pids("a"), pid);
    assert_eq!(world.states("a"), ["starting"]);
}
