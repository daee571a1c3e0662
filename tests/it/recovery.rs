//! Keeper, or keeper and daemon, are killed at the worst moments: processes of which no record was written, channels
//! and pipes that only the dead held, homes that are removed.

use rustix::process::Signal;

use crate::harness::{World, eventually, lives, rest, tagged, unique};

/// Sleepers with this tag, once no more of them appear.
fn settled(world: &World, tag: &str) -> Vec<i32> {
    let mut before = Vec::new();
    world.until("no more processes to appear", || {
        rest(200);
        let now = tagged(tag);
        let settled = !now.is_empty() && now == before;
        before = now;
        settled
    });
    before
}

/// A start is under way, its daemon hears nothing any more, but its keeper goes on: until it is killed, it starts
/// processes that no record knows.
fn interrupted_start(world: &World, tag: &str, count: &str) -> (std::process::Child, (i64, i64), Vec<i32>) {
    world.run(&["start", "sleep 1000", "--name", "first"]).ok();
    let manager = world.manager();
    let start = world.begin(&["start", &format!("sleep {tag}"), "--name", "a", "-i", count]);
    world.until("the first process", || !tagged(&format!("sleep\0{tag}")).is_empty());
    world.signal(manager.0, Signal::STOP);
    let started = settled(world, &format!("sleep\0{tag}"));
    (start, manager, started)
}

fn pids(world: &World) -> Vec<i32> {
    let mut pids: Vec<i32> = world.pids("a").iter().map(|pid| i32::try_from(*pid).unwrap()).collect();
    pids.sort_unstable();
    pids
}

#[test]
fn what_was_started_without_a_record_is_found_when_both_die() {
    let world = World::new();
    let tag = unique(21);
    let (mut start, manager, started) = interrupted_start(&world, &tag, "60");
    world.kill_manager(manager);
    start.wait().unwrap();
    world.run(&["status"]).ok();
    world.until("all of them", || world.states("a") == ["online"; 60]);
    let mut living = tagged(&format!("sleep\0{tag}"));
    living.sort_unstable();
    assert_eq!(living, pids(&world), "{}", world.report());
    assert!(started.iter().all(|pid| living.contains(pid)), "{}", world.report());
    world.run(&["delete", "a"]).ok();
    assert!(tagged(&tag).is_empty());
}

#[test]
fn what_was_started_without_an_answer_is_found_when_the_keeper_dies() {
    let world = World::new();
    let tag = unique(22);
    // More than the link holds: some answers die with the keeper.
    let (start, (daemon, keeper), started) = interrupted_start(&world, &tag, "400");
    world.signal(keeper, Signal::KILL);
    world.until("its end", || !lives(keeper));
    world.signal(daemon, Signal::CONT);
    crate::harness::finish(start, &["start"]);
    world.until("all of them", || world.states("a") == ["online"; 400]);
    let mut living = tagged(&format!("sleep\0{tag}"));
    living.sort_unstable();
    assert_eq!(living, pids(&world), "{}", world.report());
    assert!(started.iter().all(|pid| living.contains(pid)), "{}", world.report());
    assert_eq!(world.count_events("exited", "a"), 0);
    assert_eq!(world.count_events("started", "a"), 400);
    assert!(eventually(&mut || world.run(&["ping"]).code == 0));
}

/// Says goodbye when it is asked to end.
const ORPHAN: &str = "#!/bin/sh\ntrap 'echo bye >> said; exit' TERM\necho up >> said\nwhile :; do sleep 0.02; done\n";

#[test]
fn what_left_its_leader_is_asked_before_it_is_killed() {
    let world = World::new();
    world.file("orphan", ORPHAN);
    // One that cleared its environment and left the session, and one that only lost its parent.
    world.file(
        "app",
        "#!/bin/sh\nsh -c 'env -i PATH=$PATH setsid ./orphan & ./orphan &'\ntouch orphaned\nexec sleep 1000\n",
    );
    let both = |word: &str| world.text("said").lines().filter(|line| *line == word).count() == 2;
    world.file(
        "ecosystem.toml",
        "[[apps]]\nname = \"a\"\ncmd = \"./app\"\nkill_timeout = \"20s\"\n",
    );
    world.run(&["start"]).ok();
    world.until("both", || both("up") && world.path().join("orphaned").exists());
    world.run(&["stop", "a"]).ok();
    assert!(both("bye"), "{}", world.report());
    assert!(tagged("./orphan").iter().all(|pid| !world.processes().contains(pid)));
}

/// Is ready by its channel; writes down every message, every line of input, and the end of either.
const TALKER: &str = "#!/usr/bin/env python3
import os, select, sys
channel = int(os.environ['NODE_CHANNEL_FD'])
os.write(channel, b'\"ready\"\\n')
while True:
    for fd in select.select([0, channel], [], [])[0]:
        text = os.read(fd, 4096)
        with open('heard', 'ab') as heard:
            heard.write(b'%s %s\\n' % (b'input' if fd == 0 else b'channel', text.strip() or b'END'))
        if not text or (fd == channel and b'shutdown' in text):
            sys.exit(0)
";

const BY_MESSAGE: &str = "ready = \"ipc\"\nshutdown_with_message = true\nkill_timeout = \"20s\"\n";

#[test]
fn channel_and_input_survive_both() {
    let world = World::new();
    world.file("talker", TALKER);
    world.file(
        "ecosystem.toml",
        &format!("[[apps]]\nname = \"a\"\ncmd = \"./talker\"\n{BY_MESSAGE}"),
    );
    world.run(&["start"]).ok();
    let pid = world.pids("a")[0];
    world.run(&["send", "a", "one"]).ok();
    world.until("the first line", || world.text("heard") == "input one\n");
    for _ in 0..2 {
        world.kill_manager(world.manager());
        world.run(&["status"]).ok();
        assert_eq!(world.pids("a")[0], pid, "{}", world.report());
    }
    let adopted: Vec<String> = world
        .events()
        .iter()
        .filter(|event| event["kind"] == "adopted")
        .map(|event| event["message"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(adopted.len(), 2);
    assert!(adopted.iter().all(|text| text.ends_with("taken over")), "{adopted:?}");
    world.run(&["send", "a", "two"]).ok();
    world.until("the second line", || world.text("heard").ends_with("input two\n"));
    world.run(&["stop", "a"]).ok();
    let heard = world.text("heard");
    assert_eq!(
        heard,
        "input one\ninput two\nchannel \"shutdown\"\n",
        "{}",
        world.report()
    );
    assert_eq!(world.instances("a")[0]["last_exit"]["status"]["code"], 0);
}

#[test]
fn what_cannot_be_taken_back_is_said_once() {
    let world = World::new();
    // It closes the spare copy, so that nobody can find its channel.
    world.file(
        "talker",
        "#!/usr/bin/env python3\nimport os, time\nos.write(3, b'\"ready\"\\n')\nos.closerange(4, 64)\nopen('closed', 'w')\ntime.sleep(1000)\n",
    );
    world.file(
        "ecosystem.toml",
        &format!("[[apps]]\nname = \"a\"\ncmd = \"./talker\"\n{BY_MESSAGE}"),
    );
    world.run(&["start"]).ok();
    world.until("it is alone", || world.path().join("closed").exists());
    let pid = world.pids("a")[0];
    world.kill_manager(world.manager());
    world.run(&["status"]).ok();
    assert_eq!(world.pids("a")[0], pid);
    let lost = format!("a:0 (pid {pid}) survived and was taken over; lost: its IPC channel");
    let said = |text: &str| text.lines().filter(|line| line.contains(&lost)).count();
    assert_eq!(said(&world.text("home/logs/clmgr.log")), 1, "{}", world.report());
    assert_eq!(said(&world.run(&["events"]).ok().out), 1, "{}", world.report());
}

#[test]
fn a_node_app_does_not_notice_that_both_died() {
    if std::process::Command::new("node").arg("--version").output().is_err() {
        let _untold = std::io::Write::write_all(&mut std::io::stderr(), b"SKIPPED: there is no node here\n");
        return;
    }
    let world = World::new();
    world.file(
        "app.js",
        "const fs = require('fs');
process.on('disconnect', () => fs.appendFileSync('heard', 'disconnect\\n'));
process.on('message', (message) => {
  fs.appendFileSync('heard', message + '\\n');
  process.exit(message === 'shutdown' ? 0 : 1);
});
fs.writeFileSync('inherited', require('child_process').execSync('ls /proc/self/fd'));
process.send('ready');
",
    );
    world.file(
        "ecosystem.toml",
        &format!("[[apps]]\nname = \"a\"\nscript = \"app.js\"\n{BY_MESSAGE}"),
    );
    world.run(&["start"]).ok();
    let pid = world.pids("a")[0];
    assert!(std::fs::read_link(format!("/proc/{pid}/fd/15")).is_ok());
    let inherited = world.text("inherited");
    assert!(inherited.lines().all(|number| number != "15"), "{inherited}");
    world.kill_manager(world.manager());
    rest(100);
    world.run(&["status"]).ok();
    assert_eq!(world.pids("a")[0], pid);
    world.run(&["stop", "a"]).ok();
    assert_eq!(world.text("heard"), "shutdown\n", "{}", world.report());
    assert_eq!(world.instances("a")[0]["last_exit"]["status"]["code"], 0);
}

#[test]
fn status_brings_back_what_was_killed_but_not_what_was_ended() {
    let world = World::new();
    let tag = unique(23);
    let sleepers = || tagged(&format!("sleep\0{tag}")).len();
    let nothing = |args: &[&str]| {
        let said = world.run(args).ok();
        assert!(said.out.contains("does not run here"), "{}{}", said.out, said.err);
        assert_eq!(world.status(), serde_json::json!({"apps": []}));
        assert!(world.processes().is_empty());
    };
    nothing(&["status"]);
    world
        .run(&["start", &format!("sleep {tag}"), "--name", "a", "-i", "3"])
        .ok();
    let before = world.pids("a");
    for _ in 0..2 {
        world.kill_manager(world.manager());
        // Whoever comes first starts it; nobody is turned away.
        let asked: Vec<_> = (0..5).map(|_| world.begin(&["status", "--json"])).collect();
        for one in asked {
            let said = crate::harness::finish(one, &["status", "--json"]).ok().json();
            assert_eq!(said["apps"][0]["instances"].as_array().unwrap().len(), 3, "{said}");
        }
        assert_eq!(world.pids("a"), before, "{}", world.report());
        assert_eq!(sleepers(), 3);
    }
    world.run(&["kill"]).ok();
    nothing(&["status"]);
    nothing(&["ls", "a"]);
    // The note of another boot, or a broken one, means nothing.
    world.file("home/clmgr.running", "00000000-0000-0000-0000-000000000000 7 4711\n");
    nothing(&["status"]);
    world.run(&["resurrect"]).ok();
    world.until("all are back", || world.states("a") == ["online"; 3]);
    assert_eq!(sleepers(), 3);
}

#[test]
fn a_home_that_was_removed_is_not_started_beside_its_keeper() {
    let world = World::new();
    let tag = unique(24);
    let sleepers = || tagged(&format!("sleep\0{tag}"));
    let start = ["start", &format!("sleep {tag}"), "--name", "a"];
    world.run(&start).ok();
    let (daemon, keeper) = world.manager();
    let log = world.home().join("logs/clmgr.log");
    let kept = world.path().join("kept.log");
    std::fs::hard_link(log, &kept).unwrap();
    let before = sleepers();
    std::fs::remove_dir_all(world.home()).unwrap();
    world.until("the daemon to notice", || {
        let text = std::fs::read_to_string(&kept).unwrap();
        text.contains("was removed while clmgr works in it") && text.contains(&format!("kill {keeper}"))
    });
    for _ in 0..2 {
        world
            .run(&start)
            .refused(5, &format!("former home in this place still runs as process {keeper}"));
        assert_eq!(sleepers(), before);
    }
    world.signal(keeper, Signal::TERM);
    world.until("their end", || {
        !lives(keeper) && !lives(daemon) && sleepers().is_empty()
    });
    world.run(&start).ok();
    assert_eq!(sleepers().len(), 1);
    // Nobody is left who could tell, but the app carries the mark of a home that knows it no more.
    world.kill_manager(world.manager());
    std::fs::remove_dir_all(world.home()).unwrap();
    world.run(&start).ok();
    world.until("one", || sleepers().len() == 1);
    assert_eq!(world.pids("a")[0], i64::from(sleepers()[0]));
}
