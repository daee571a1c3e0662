//! A stop leaves nothing behind, and does no more than it was told to.

use crate::harness::{World, finish, lives, tagged};

/// A number no other process has as an argument: a duration for `sleep` that marks one world's processes.
fn tag(world: &World) -> String {
    let digits: u64 = world
        .path()
        .to_string_lossy()
        .bytes()
        .fold(7, |hash, byte| (hash * 131 + u64::from(byte)) % 1_000_000_007);
    format!("7{digits:010}")
}

fn gone(world: &World, tag: &str) {
    let left = tagged(tag);
    assert!(left.is_empty(), "left: {left:?}\n{}", world.report());
}

fn start(world: &World, keys: &str, script: &str) {
    world.file("app.sh", &format!("#!/bin/sh\n{script}\n"));
    world.file(
        "ecosystem.toml",
        &format!("[[apps]]\nname = \"a\"\nscript = \"app.sh\"\nready = {{ log = \"^up$\" }}\n{keys}\n"),
    );
    world.run(&["start"]).ok();
}

#[test]
fn who_ignores_the_signal_is_killed_after_the_timeout() {
    let world = World::new();
    let tag = tag(&world);
    start(
        &world,
        "kill_timeout = \"300ms\"",
        &format!("trap '' TERM\n(trap '' TERM; sleep {tag}) &\necho up\nwhile :; do sleep {tag}; done"),
    );
    world.run(&["stop", "a"]).ok();
    assert_eq!(world.states("a"), ["stopped"]);
    gone(&world, &tag);
    assert_eq!(world.count_events("killed", "a"), 1);
    assert_eq!(world.instances("a")[0]["last_exit"]["status"]["signal"], 9);
}

#[test]
fn who_obeys_is_not_killed() {
    let world = World::new();
    let tag = tag(&world);
    start(
        &world,
        "",
        &format!("trap 'echo bye; exit 5' TERM\necho up\nsleep {tag} & wait"),
    );
    world.run(&["stop", "a"]).ok();
    gone(&world, &tag);
    assert_eq!(world.count_events("killed", "a"), 0);
    assert_eq!(world.instances("a")[0]["last_exit"]["status"]["code"], 5);
    assert!(world.text("home/logs/a-0-out.log").ends_with("bye\n"));
}

#[test]
fn daemonised_children_go_too() {
    let world = World::new();
    let tag = tag(&world);
    // Another session; a double fork; both without our environment, one of them deaf to SIGTERM.
    start(
        &world,
        "kill_timeout = \"500ms\"",
        &format!(
            "setsid sleep {tag} &\n\
             sh -c 'setsid sleep {tag} &'\n\
             env -i PATH=\"$PATH\" setsid sh -c 'trap \"\" TERM; echo $$ > deaf; sleep {tag}; sleep {tag}' &\n\
             env -i PATH=\"$PATH\" sh -c 'setsid sleep {tag} & echo $! > orphan'\n\
             while ! test -s deaf; do sleep 0.01; done\n\
             echo up\nsleep {tag}"
        ),
    );
    world.until("five of them", || tagged(&format!("sleep\0{tag}")).len() >= 5);
    world.run(&["stop", "a"]).ok();
    gone(&world, &tag);
}

#[test]
fn a_tree_of_three_levels_goes() {
    let world = World::new();
    let tag = tag(&world);
    start(
        &world,
        "kill_timeout = \"300ms\"",
        &format!(
            "sh -c \"sh -c 'trap \\\"\\\" TERM; setsid sleep {tag} & sleep {tag}; sleep {tag}' & sleep {tag}; sleep {tag}\" &\necho up\nsleep {tag}"
        ),
    );
    world.until("four of them", || tagged(&format!("sleep\0{tag}")).len() >= 4);
    world.run(&["stop", "a"]).ok();
    gone(&world, &tag);
}

#[test]
fn a_fork_loop_that_outruns_its_killer_goes() {
    let world = World::new();
    let tag = tag(&world);
    // Each generation lives a moment, leaves for a session of its own and forks the next: never more than a few.
    let body = "trap '' TERM\nsleep 0.02\nsetsid \"$0\" \"$1\" &\n";
    world.file("hop.sh", &format!("#!/bin/sh\n{body}"));
    start(
        &world,
        "kill_timeout = \"200ms\"",
        &format!("trap '' TERM\nsetsid ./hop.sh {tag} &\necho up\nwhile :; do sleep 1; done"),
    );
    world.run(&["stop", "a"]).ok();
    gone(&world, &tag);
    // What escaped would still be hopping.
    for _ in 0..50 {
        crate::harness::rest(10);
        gone(&world, &tag);
    }
}

#[test]
fn leftovers_of_a_crash_do_not_meet_the_next_run() {
    let world = World::new();
    let tag = tag(&world);
    start(
        &world,
        "min_uptime = \"1ms\"",
        &format!("setsid sleep {tag} &\necho up\nsleep 1000"),
    );
    world.until("its child", || tagged(&tag).len() == 1);
    let child = tagged(&tag);
    assert!(world.kill9(world.pids("a")[0]));
    world.until("the next run alone", || {
        let now = tagged(&tag);
        now.len() == 1 && now != child && world.states("a") == ["online"]
    });
    world.run(&["delete", "a"]).ok();
    gone(&world, &tag);
}

#[test]
fn pre_stop_runs_before_the_signal_and_a_hanging_one_is_bounded() {
    let world = World::new();
    world.file(
        "drain.sh",
        "#!/bin/sh\nkill -0 \"$CLMGR_PID\" && echo drained >> order\n",
    );
    start(
        &world,
        "pre_stop = \"./drain.sh\"",
        "trap 'echo signalled >> order; exit 0' TERM\necho up\nwhile :; do sleep 0.05; done",
    );
    world.run(&["stop", "a"]).ok();
    assert_eq!(world.text("order"), "drained\nsignalled\n");

    let hanging = World::new();
    let tag = tag(&hanging);
    start(
        &hanging,
        &format!("kill_timeout = \"300ms\"\npre_stop = \"sleep {tag}\""),
        "echo up\nexec sleep 1000",
    );
    let pid = hanging.pids("a")[0];
    hanging.run(&["stop", "a"]).ok();
    assert!(!lives(pid));
    hanging.until("the end of its pre_stop", || tagged(&tag).is_empty());
}

#[test]
fn the_stop_signal_is_the_one_of_the_file() {
    let world = World::new();
    let script = "trap 'echo int; exit 0' INT\ntrap 'echo term; exit 1' TERM\ntrap 'echo usr2; exit 2' USR2\necho up\nwhile :; do sleep 0.05; done";
    start(&world, "stop_signal = \"SIGUSR2\"", script);
    world.run(&["stop", "a"]).ok();
    assert_eq!(world.text("home/logs/a-0-out.log"), "up\nusr2\n");
    assert_eq!(world.instances("a")[0]["last_exit"]["status"]["code"], 2);
}

#[test]
fn without_treekill_only_the_process_itself_is_signalled() {
    let world = World::new();
    let tag = tag(&world);
    start(
        &world,
        "treekill = false",
        &format!("sleep {tag} & echo $! > child\necho up\nwhile :; do sleep 0.05; done"),
    );
    let child: i64 = world.text("child").trim().parse().unwrap();
    let pid = world.pids("a")[0];
    world.run(&["stop", "a"]).ok();
    assert!(!lives(pid));
    assert!(lives(child), "{}", world.report());
    assert!(world.kill9(child));
    world.until("its end", || !lives(child));
}

#[test]
fn a_stop_of_many_is_parallel_and_of_one_slot_is_of_one() {
    let world = World::new();
    let tag = tag(&world);
    start(
        &world,
        "instances = 8\nkill_timeout = \"500ms\"",
        &format!("trap '' TERM\necho up\nwhile :; do sleep {tag}; done"),
    );
    world.run(&["stop", "a:3"]).ok();
    let states = world.states("a");
    assert_eq!(states.iter().filter(|state| *state == "stopped").count(), 1);
    assert_eq!(states[3], "stopped");
    let stop = world.begin(&["stop", "a"]);
    world.until("all at once", || {
        world.states("a").iter().filter(|state| *state == "stopping").count() == 7 || tagged(&tag).is_empty()
    });
    finish(stop, &["stop"]).ok();
    gone(&world, &tag);
}

#[test]
fn a_stop_while_it_starts_and_a_start_while_it_stops() {
    let world = World::new();
    let tag = tag(&world);
    world.file(
        "app.sh",
        &format!("#!/bin/sh\ntrap '' TERM\necho $$ >> pids\nwhile :; do sleep {tag}; done\n"),
    );
    world.file(
        "ecosystem.toml",
        "[[apps]]\nname = \"a\"\nscript = \"app.sh\"\nready = { log = \"never\" }\nkill_timeout = \"400ms\"\n",
    );
    let start = world.begin(&["start"]);
    world.until("starting", || {
        world.states("a") == ["starting"] && !world.text("pids").is_empty()
    });
    world.run(&["stop", "a"]).ok();
    assert_eq!(world.states("a"), ["stopped"]);
    gone(&world, &tag);
    assert_ne!(finish(start, &["start"]).code, 0, "what was asked for did not happen");
    world.file(
        "ecosystem.toml",
        "[[apps]]\nname = \"a\"\nscript = \"app.sh\"\nkill_timeout = \"400ms\"\n",
    );
    world.run(&["start"]).ok();
    let stop = world.begin(&["stop", "a"]);
    world.until("stopping", || {
        world.states("a") == ["stopping"] || world.states("a") == ["stopped"]
    });
    world.run(&["start", "a"]).ok();
    let _either = finish(stop, &["stop"]);
    world.until("it runs, once", || {
        world.states("a") == ["online"]
            && tagged("app.sh")
                .iter()
                .filter(|pid| world.processes().contains(pid))
                .count()
                == 1
    });
}
