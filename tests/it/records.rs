//! What a daemon writes while it works is enough for the next one, whenever it dies.

use serde_json::Value;

use crate::harness::{World, rest};
use crate::survival::{daemon, kill_daemon};

/// The record that an app has ended and the event that says so are written together: a daemon that dies between the
/// two would tell of the exit again, or never.
#[test]
fn every_exit_is_told_once_whenever_the_daemon_dies() {
    let world = World::new();
    let brief = "#!/bin/sh\nsleep 0.03\necho $$ >> ends\nexit 7\n";
    let app = world.file("brief", brief);
    world.file(
        "ecosystem.toml",
        &format!(
            "[[apps]]\nname = \"b\"\ncmd = \"{}\"\ninstances = 12\nmin_uptime = \"1ms\"\nmax_restarts = 100000\nbackoff = {{ first = \"1ms\", max = \"1ms\" }}\n",
            app.display()
        ),
    );
    world.run(&["start"]).ok();
    for kill in 0..15_u64 {
        world.until("a daemon", || daemon(&world).is_some());
        rest(20 + kill * 37 % 90);
        if let Some(pid) = daemon(&world) {
            kill_daemon(&world, pid);
        }
    }
    world.run(&["stop", "b"]).ok();
    let events = world.events();
    let told = |pid: i64| {
        let of_it = |event: &&Value| event["kind"] == "exited" && event["pid"] == pid;
        events.iter().filter(of_it).count()
    };
    let ends = world.text("ends");
    assert!(ends.lines().count() > 20, "{ends}");
    let wrong: Vec<(&str, usize)> = ends
        .lines()
        .map(|pid| (pid, told(pid.parse().unwrap())))
        .filter(|(_, count)| *count != 1)
        .collect();
    assert!(wrong.is_empty(), "{wrong:?} of {}", ends.lines().count());
}

/// A process that is one too many for whoever does not know of its rollout is not started before that is written: the
/// next daemon would stop it, and it may be serving by then.
#[test]
fn the_first_process_of_a_rollout_is_no_stranger() {
    let world = World::new();
    let app = world.file("app", "#!/bin/sh\necho $$ >> births\nexec sleep 1000\n");
    world.file(
        "ecosystem.toml",
        &format!(
            "[[apps]]\nname = \"a\"\ncmd = \"{}\"\nrollout = {{ order = \"start-first\", min_healthy = \"100ms\" }}\n",
            app.display()
        ),
    );
    world.run(&["start"]).ok();
    for round in 1..=6 {
        let births = || world.text("births").lines().count();
        world.until("its first process", || births() == round);
        let before = world.pids("a");
        let reload = world.begin(&["reload", "a"]);
        world.until("the next generation", || births() > round);
        if let Some(pid) = daemon(&world) {
            kill_daemon(&world, pid);
        }
        let _whatever = crate::harness::finish(reload, &["reload"]);
        world.until("the end of the rollout", || {
            world.states("a") == ["online"] && world.pids("a") != before
        });
        assert_eq!(births(), round + 1, "{}", world.report());
    }
    assert!(!world.text("home/logs/clmgr.log").contains("belongs to no app"));
}
