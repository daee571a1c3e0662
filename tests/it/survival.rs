//! Keeper and daemon are killed, one by one and together, while they work: the apps must not notice, and nothing
//! that was acknowledged may be lost.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Said, World, eventually, lives, rest, tagged, unique};

/// An app that ends with code 7 when the file `die` is there.
const MORTAL: &str = "#!/bin/sh\nwhile [ ! -e die ]; do sleep 0.02; done\nrm die\nexit 7\n";

/// The daemon, as the system shows it; none while there is none.
pub fn daemon(world: &World) -> Option<i64> {
    let role = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.ends_with(b"clmgr\0daemon\0")
    };
    world.processes().into_iter().find(role).map(i64::from)
}

/// Kills the daemon and waits until it is gone. True if it lived until then.
pub fn kill_daemon(world: &World, pid: i64) -> bool {
    let killed = world.kill9(pid);
    world.until("the daemon's end", || !lives(pid));
    killed
}

fn kinds(world: &World, kind: &str) -> usize {
    world.events().iter().filter(|event| event["kind"] == kind).count()
}

fn at(event: &Value) -> i64 {
    event["at"].as_i64().unwrap_or_else(|| panic!("{event}"))
}

#[test]
fn apps_do_not_notice_the_death_of_the_daemon() {
    let world = World::new();
    let tag = unique(11);
    world
        .run(&["start", &format!("sleep {tag}"), "--name", "a", "-i", "4"])
        .ok();
    world.run(&["start", "sleep 1000", "--name", "idle"]).ok();
    world.run(&["stop", "idle"]).ok();
    let before = world.pids("a");
    let mut old = world.manager();
    for _ in 0..3 {
        assert!(kill_daemon(&world, old.0));
        let now = world.manager();
        assert_ne!(now.0, old.0);
        assert_eq!(now.1, old.1, "the keeper stays");
        assert_eq!(world.pids("a"), before);
        assert_eq!(world.states("a"), ["online"; 4]);
        assert_eq!(world.states("idle"), ["stopped"]);
        old = now;
    }
    assert_eq!(tagged(&tag).len(), 4);
    assert_eq!(world.count_events("started", "a"), 4);
    assert_eq!(world.count_events("exited", "a"), 0);
    assert_eq!(kinds(&world, "daemon_started"), 4);
    world.run(&["scale", "a", "2"]).ok();
    assert_eq!(world.pids("a"), before[..2]);
    world.until("two", || tagged(&tag).len() == 2);
}

#[test]
fn an_exit_while_the_daemon_is_away_keeps_its_code() {
    let world = World::new();
    let app = world.file("mortal", MORTAL);
    world.run(&["start", app.to_str().unwrap(), "--name", "m"]).ok();
    // Reaped by the keeper while it waits before it starts another daemon, which takes longer each time.
    for _ in 0..4 {
        world.until("a daemon", || daemon(&world).is_some());
        if let Some(pid) = daemon(&world) {
            kill_daemon(&world, pid);
        }
    }
    let pid = tagged(app.to_str().unwrap())[0];
    world.file("die", "");
    world.until("its end", || !lives(pid.into()));
    world.until("its replacement", || {
        let now = world.pids("m");
        now[0] != 0 && now[0] != i64::from(pid)
    });
    assert_eq!(world.instances("m")[0]["last_exit"]["status"], json!({"code": 7}));
    assert_eq!(world.count_events("exited", "m"), 1, "recorded once");
    // Ended while even the keeper cannot look.
    let (daemon, keeper) = world.manager();
    let pid = world.pids("m")[0];
    world.signal(keeper, Signal::STOP);
    kill_daemon(&world, daemon);
    world.file("die", "");
    world.until("its second end", || !lives(pid));
    world.signal(keeper, Signal::CONT);
    world.until("its second replacement", || {
        let now = world.pids("m");
        now[0] != 0 && now[0] != pid
    });
    let exits: Vec<Value> = world
        .events()
        .into_iter()
        .filter(|event| event["kind"] == "exited" && event["app"] == "m")
        .collect();
    assert_eq!(exits.len(), 2, "{exits:?}");
    assert!(exits.iter().all(|event| event["exit"]["status"] == json!({"code": 7})));
}

#[test]
fn a_backoff_goes_on_where_it_was() {
    let world = World::new();
    world.file(
        "ecosystem.toml",
        "[[apps]]\nname = \"a\"\ncmd = [\"sh\", \"-c\", \"exit 3\"]\nmax_restarts = 9\nbackoff = { first = \"20s\", max = \"20s\", jitter = 0 }\n\
         [[apps]]\nname = \"open\"\ncmd = [\"sh\", \"-c\", \"exit 4\"]\nmax_restarts = 1\nbreaker_cooldown = \"1h\"\n",
    );
    let _whatever = world.run(&["start"]);
    world.until("backoff and open circuit", || {
        world.states("a") == ["backoff"] && world.states("open") == ["errored"]
    });
    let before = world.instances("a")[0].clone();
    let open = world.instances("open")[0].clone();
    kill_daemon(&world, world.manager().0);
    kill_daemon(&world, world.manager().0);
    let after = world.instances("a")[0].clone();
    assert_eq!(after["state"], "backoff");
    assert_eq!(after["restarts"], before["restarts"]);
    assert_eq!(after["last_exit"], before["last_exit"]);
    assert!(
        after["next_start_ms"].as_u64().unwrap() <= before["next_start_ms"].as_u64().unwrap(),
        "{before} {after}"
    );
    let open_after = world.instances("open")[0].clone();
    assert_eq!(open_after["state"], "errored");
    assert_eq!(open_after["restarts"], open["restarts"]);
    assert_eq!(world.count_events("circuit_open", "open"), 1, "it is not opened again");
    world.until("the next start", || world.count_events("started", "a") >= 2);
    let events = world.events();
    let of = |kind: &str, number: usize| {
        let mut all = events
            .iter()
            .filter(|event| event["app"] == "a" && event["kind"] == kind);
        all.nth(number).map(at).unwrap()
    };
    let waited = of("started", 1) - of("exited", 0);
    assert!(waited >= 19_990, "started after {waited} ms instead of 20000");
    assert_eq!(world.count_events("started", "open"), 1);
}

/// What must be true of the apps in the next test: running or not, and how many.
type Wanted = BTreeMap<&'static str, (bool, usize)>;

/// Repeats a command until it is acknowledged; how often it was not.
fn insist(world: &World, args: &[&str], limit: usize) -> usize {
    for refused in 0..=limit {
        let said: Said = world.run(args);
        if said.code == 0 {
            return refused;
        }
        assert!(
            !said.err.contains("panic") && !said.err.is_empty(),
            "{args:?}: {} {}",
            said.code,
            said.err
        );
    }
    panic!("{args:?} was refused too often\n{}", world.report());
}

#[test]
fn twenty_deaths_of_the_daemon_while_it_works() {
    let world = World::new();
    let tags = [unique(12), unique(13), unique(14)];
    let [a, b, c] = tags.each_ref().map(String::as_str);
    for (name, tag, count) in [("a", a, "3"), ("b", b, "2"), ("c", c, "2")] {
        world
            .run(&["start", &format!("sleep {tag}"), "--name", name, "-i", count])
            .ok();
    }
    let mut wanted: Wanted = BTreeMap::from([("a", (true, 3)), ("b", (true, 2)), ("c", (true, 2))]);
    let stop = AtomicBool::new(false);
    let check = |wanted: &Wanted, name: &str| {
        let (running, count) = wanted[name];
        let said = world.run(&["status", "--json"]).ok().json();
        let apps = said["apps"].as_array().unwrap();
        let app = apps.iter().find(|app| app["name"] == name).unwrap();
        let instances = app["instances"].as_array().unwrap();
        assert_eq!(instances.len(), count, "{name}: {app}");
        assert!(
            instances.iter().all(|one| (one["state"] == "stopped") != running),
            "{name}: running is {running}, but {app}"
        );
    };
    std::thread::scope(|scope| {
        let world = &world;
        let killer = scope.spawn(|| {
            let mut random = u64::from(std::process::id()) * 0x9e37_79b9;
            let mut kills = 0;
            while kills < 20 {
                world.until("a daemon", || daemon(world).is_some());
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                rest((random >> 33) % 300);
                if let Some(pid) = daemon(world) {
                    kills += u32::from(kill_daemon(world, pid));
                }
                assert!(tagged(c).len() <= 5, "more than were ever asked for");
            }
            stop.store(true, Ordering::Release);
        });
        let mut round = 0_usize;
        while !stop.load(Ordering::Acquire) && !killer.is_finished() {
            round += 1;
            let count = round % 5 + 1;
            insist(world, &["scale", "c", &count.to_string()], 20);
            wanted.insert("c", (true, count));
            check(&wanted, "c");
            let (running, many) = wanted["b"];
            insist(world, &[if running { "stop" } else { "start" }, "b"], 20);
            wanted.insert("b", (!running, many));
            check(&wanted, "b");
            insist(world, &["restart", "a"], 20);
            check(&wanted, "a");
            check(&wanted, "b");
        }
        killer.join().unwrap();
    });
    world.until("everything as acknowledged", || {
        wanted.iter().all(|(name, (running, count))| {
            let state = if *running { "online" } else { "stopped" };
            world.states(name) == vec![state; *count]
        })
    });
    for (name, tag) in [("a", a), ("b", b), ("c", c)] {
        let (running, count) = wanted[name];
        let expected = if running { count } else { 0 };
        let mut living = tagged(tag);
        let mut known: Vec<i32> = world
            .pids(name)
            .iter()
            .map(|pid| i32::try_from(*pid).unwrap())
            .collect();
        known.retain(|pid| *pid != 0);
        living.sort_unstable();
        known.sort_unstable();
        assert_eq!(known.len(), expected, "{name}\n{}", world.report());
        assert_eq!(living, known, "{name}\n{}", world.report());
    }
    assert_eq!(kinds(&world, "state_lost"), 0);
    for trouble in ["ERROR", "belongs to no app"] {
        assert!(
            !world.text("home/logs/clmgr.log").contains(trouble),
            "{}",
            world.report()
        );
    }
}

/// Writes numbers as fast as it can until it is told to stop, then says in a file how many there were.
const COUNTER: &str = "\
import os, time
out = os.fdopen(1, 'wb', 4096)
n = 0
while not os.path.exists('enough'):
    for _ in range(1000):
        out.write(b'%d\\n' % n)
        n += 1
out.flush()
with open('written.tmp', 'w') as told:
    told.write(str(n))
os.rename('written.tmp', 'written')
time.sleep(1000)
";

#[test]
fn no_line_is_lost_or_repeated_when_the_daemon_dies() {
    let world = World::new();
    world.file("count.py", COUNTER);
    world.file(
        "ecosystem.toml",
        "[[apps]]\nname = \"raw\"\ncmd = \"python3 count.py\"\nout_file = \"raw.log\"\nlog_rotate = false\n",
    );
    world.run(&["start"]).ok();
    let log = world.path().join("raw.log");
    let mut kills = 0;
    while kills < 5 {
        world.until("a daemon that writes", || {
            let size = || std::fs::metadata(&log).map_or(0, |meta| meta.len());
            let before = size();
            daemon(&world).is_some() && size() > before
        });
        if let Some(pid) = daemon(&world) {
            kills += u32::from(kill_daemon(&world, pid));
        }
    }
    world.file("enough", "");
    world.until("the number of lines", || world.path().join("written").exists());
    let written: u64 = world.text("written").parse().unwrap();
    let length: u64 = (0..written).map(|number| u64::from(number.max(1).ilog10()) + 2).sum();
    world.until("all is written", || {
        std::fs::metadata(&log).is_ok_and(|meta| meta.len() >= length)
    });
    let mut expected = 0;
    for line in BufReader::new(File::open(&log).unwrap()).lines() {
        assert_eq!(line.unwrap(), expected.to_string());
        expected += 1;
    }
    assert_eq!(expected, written);
    assert_eq!(world.count_events("started", "raw"), 1);
}

#[test]
fn a_killed_keeper_is_replaced_and_nobody_notices() {
    let world = World::new();
    let tag = unique(15);
    let mortal = world.file("mortal", MORTAL);
    world
        .run(&["start", &format!("sleep {tag}"), "--name", "a", "-i", "2"])
        .ok();
    world.run(&["start", mortal.to_str().unwrap(), "--name", "m"]).ok();
    let before = (world.pids("a"), world.pids("m"));
    let (_, keeper) = world.manager();
    assert!(world.kill9(keeper));
    world.until("another keeper", || {
        let ping = world.run(&["ping", "--json"]);
        ping.code == 0 && ping.json()["keeper_pid"] != keeper
    });
    assert_eq!((world.pids("a"), world.pids("m")), before);
    assert_eq!(kinds(&world, "keeper_replaced"), 1);
    assert_eq!(world.count_events("exited", "a"), 0);
    world.file("die", "");
    world.until("a later exit is noticed", || {
        let now = world.pids("m")[0];
        now != 0 && now != before.1[0]
    });
    let status = world.instances("m")[0]["last_exit"]["status"].clone();
    assert!(
        status == json!({"code": 7}) || status == "unknown",
        "never invented: {status}"
    );
    world.run(&["scale", "a", "4"]).ok();
    assert_eq!(world.pids("a")[..2], before.0);
    assert_eq!(tagged(&tag).len(), 4);
    world.run(&["restart", "a"]).ok();
    world.until("four new ones", || tagged(&tag).len() == 4);
    let now = world.pids("a");
    assert!(before.0.iter().all(|pid| !now.contains(pid) && !lives(*pid)));
    world.run(&["stop", "a"]).ok();
    assert_eq!(tagged(&tag).len(), 0);
    // The next one too, and a daemon after it.
    let (daemon, keeper) = world.manager();
    assert!(world.kill9(keeper));
    world.until("a third keeper", || {
        let ping = world.run(&["ping", "--json"]);
        ping.code == 0 && ping.json()["keeper_pid"] != keeper
    });
    kill_daemon(&world, daemon);
    assert_ne!(world.manager().0, daemon);
    assert_eq!(world.states("m"), ["online"]);
    world.run(&["start", "a"]).ok();
    assert_eq!(tagged(&tag).len(), 4);
    assert_eq!(kinds(&world, "keeper_replaced"), 2);
}

#[test]
fn survivors_of_both_are_adopted() {
    let world = World::new();
    let tag = unique(16);
    let mortal = world.file("mortal", MORTAL);
    let talker = world.file(
        "talker",
        "#!/bin/sh\necho first\nwhile :; do if [ -e say ]; then cat say; rm say; fi; sleep 0.02; done\n",
    );
    world
        .run(&["start", &format!("sleep {tag}"), "--name", "a", "-i", "3"])
        .ok();
    world.run(&["start", "sleep 1000", "--name", "idle"]).ok();
    world.run(&["stop", "idle"]).ok();
    world.run(&["start", mortal.to_str().unwrap(), "--name", "m"]).ok();
    world.run(&["start", talker.to_str().unwrap(), "--name", "t"]).ok();
    let log = "home/logs/t-0-out.log";
    world.until("its first line", || world.text(log) == "first\n");
    let before = world.pids("a");
    let (talking, dead) = (world.pids("t"), world.pids("m"));
    world.kill_both();
    world.file("die", "");
    world.until("a death nobody sees", || !lives(dead[0]));
    assert_eq!(tagged(&tag).len(), 3);
    world.run(&["status"]).ok();
    assert_eq!(world.pids("a"), before, "the same processes");
    assert_eq!(world.pids("t"), talking);
    assert_eq!(tagged(&tag).len(), 3);
    assert_eq!(world.states("idle"), ["stopped"]);
    assert_eq!(world.count_events("started", "a"), 3);
    assert_eq!(kinds(&world, "adopted"), 4);
    world.until("the dead one is back", || {
        let now = world.pids("m");
        now[0] != 0 && now[0] != dead[0]
    });
    let status = world.instances("m")[0]["last_exit"]["status"].clone();
    assert!(
        status == json!({"code": 7}) || status == "unknown",
        "never invented: {status}"
    );
    world.file("say.tmp", "second\n");
    std::fs::rename(world.path().join("say.tmp"), world.path().join("say")).unwrap();
    world.until("the log goes on", || world.text(log) == "first\nsecond\n");
    // They are ours again in every way.
    assert!(world.kill9(before[1]));
    world.until("a replacement", || {
        let now = world.pids("a");
        now[1] != 0 && now[1] != before[1]
    });
    let replaced = world.pids("a");
    assert_eq!((replaced[0], replaced[2]), (before[0], before[2]));
    world.run(&["stop", "a"]).ok();
    assert!(eventually(&mut || tagged(&tag).is_empty()));
    // And once more, with the daemon's death alone after it.
    world.kill_both();
    world.run(&["status"]).ok();
    kill_daemon(&world, world.manager().0);
    assert_eq!(world.pids("t"), talking);
    assert_eq!(world.states("a"), ["stopped"; 3]);
}

#[test]
fn after_kill_everything_comes_back_as_wanted() {
    let world = World::new();
    let tags = [unique(17), unique(18), unique(19)];
    for (name, tag) in ["many", "down", "api"].iter().zip(&tags) {
        world
            .run(&["start", &format!("sleep {tag}"), "--name", name, "-i", "3"])
            .ok();
    }
    world.run(&["scale", "many", "5"]).ok();
    world.run(&["stop", "down"]).ok();
    world.run(&["stop", "api:1"]).ok();
    let (daemon, keeper) = world.manager();
    world.run(&["kill"]).ok();
    assert!(!lives(daemon) && !lives(keeper));
    assert!(tags.iter().all(|tag| tagged(tag).is_empty()));
    world.run(&["resurrect"]).ok();
    let right = || {
        world.states("many") == ["online"; 5]
            && world.states("down") == ["stopped"; 3]
            && world.states("api") == ["online", "stopped", "online"]
    };
    world.until("everything as wanted", right);
    assert_eq!(tags.each_ref().map(|tag| tagged(tag).len()), [5, 0, 2]);
    // The same by force.
    world.kill_both();
    world.run(&["status"]).ok();
    world.until("everything as wanted, again", right);
    assert_eq!(tags.each_ref().map(|tag| tagged(tag).len()), [5, 0, 2]);
    world.run(&["start", "api:1"]).ok();
    assert_eq!(world.states("api"), ["online"; 3]);
}

/// Both die while an app writes: the write must not end it, and what it left in other sessions is still its own.
#[test]
fn a_writer_with_daemonised_children_survives_both_and_stops_as_a_whole() {
    let world = World::new();
    let tag = unique(10);
    let writer = world.file(
        "writer",
        &format!(
            "#!/bin/sh\nsetsid sleep {tag} &\nsh -c 'setsid sleep {tag} &'\nn=0\nwhile :; do n=$((n+1)); echo $n; echo $n > count; sleep 0.02; done\n"
        ),
    );
    world.run(&["start", writer.to_str().unwrap(), "--name", "w"]).ok();
    let count = || world.text("count").trim().parse::<u32>().unwrap_or(0);
    let sleepers = || tagged(&format!("sleep\0{tag}")).len();
    world.until("it writes, and has its children", || count() > 1 && sleepers() == 2);
    let before = world.pids("w");
    world.kill_both();
    let then = count();
    assert!(eventually(&mut || count() > then + 5), "it ended with its first write");
    world.run(&["status"]).ok();
    assert_eq!(world.pids("w"), before);
    world.run(&["stop", "w"]).ok();
    assert_eq!(sleepers(), 0, "{}", world.report());
}
