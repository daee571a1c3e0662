//! Full disks, folders that cannot be written, and both gone again: apps go on, the state stays what was last
//! confirmed, the user is told, and everything resumes by itself.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::World;

/// Writes lines of 1 KiB that are numbered, ten at a time.
const TALK: &str = "#!/bin/sh
pad=$(printf '%01000d' 0)
i=0
while :; do
  for n in 1 2 3 4 5 6 7 8 9 10; do i=$((i+1)); echo \"$i $pad end\"; done
  sleep 0.02
done
";

fn events(world: &World, kind: &str) -> Vec<Value> {
    world
        .events()
        .into_iter()
        .filter(|event| event["kind"] == kind)
        .collect()
}

/// Fills the disk to the last byte.
pub fn fill(folder: &Path) -> PathBuf {
    let path = folder.join("ballast");
    let mut file = std::fs::File::create(&path).unwrap();
    for size in [4096, 1] {
        while file.write_all(&vec![0; size]).is_ok() {}
    }
    path
}

/// The numbers of the whole lines of a log, and how many lines its markers say were lost.
fn numbers(log: &Path) -> (Vec<u64>, u64) {
    let text = std::fs::read_to_string(log).unwrap();
    let mut lost = 0;
    let mut found = Vec::new();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    for line in whole.lines() {
        if let Some(marker) = line.strip_prefix("[clmgr: ") {
            assert!(marker.contains("No space left on device"), "{marker}");
            lost += marker.split(' ').next().unwrap().parse::<u64>().unwrap();
        } else {
            let (number, rest) = line.split_once(' ').unwrap();
            assert!(rest.len() == 1004 && rest.ends_with(" end"), "not a whole line: {line}");
            found.push(number.parse().unwrap());
        }
    }
    (found, lost)
}

#[test]
fn a_full_disk_for_logs_costs_log_lines_only_and_says_how_many() {
    let world = World::new();
    let logs = world.home().join("logs");
    if !world.disk(&logs, 256) {
        return;
    }
    world.file("talk", TALK);
    world.run(&["start", "./talk", "--name", "talk"]).ok();
    let pids = world.pids("talk");
    world.until("the loss is told", || !events(&world, "log_lost").is_empty());
    let told = events(&world, "log_lost").remove(0);
    assert_eq!(told["app"], "talk");
    let message = told["message"].as_str().unwrap();
    assert!(
        message.contains("talk-0-out.log") && message.contains("No space left on device"),
        "{message}"
    );
    assert!(
        world
            .run(&["describe", "talk"])
            .ok()
            .out
            .contains("No space left on device")
    );
    // Everything else goes on, the daemon's own log on the same disk included.
    world.run(&["start", "sleep 1000", "--name", "other"]).ok();
    world.run(&["restart", "other"]).ok();
    world.run(&["logs", "--nostream"]).ok();
    assert_eq!(
        (world.pids("talk"), world.states("talk")),
        (pids.clone(), vec!["online".to_owned()])
    );
    let (daemon, keeper) = world.manager();
    // More room, and nothing else is needed.
    world.redisk(&logs, 64 << 10, true);
    world.until("it resumes", || !events(&world, "log_resumed").is_empty());
    let resumed = events(&world, "log_resumed").remove(0);
    assert!(resumed["message"].as_str().unwrap().contains("lines"), "{resumed}");
    let log = logs.join("talk-0-out.log");
    world.until("lines follow the marker", || {
        numbers(&log).0.len() > 2000 || std::fs::metadata(&log).unwrap().len() > 400 << 10
    });
    let (found, lost) = numbers(&log);
    assert!(lost > 0);
    assert!(found.is_sorted_by(|one, other| one < other), "in order, none twice");
    assert_eq!(
        found.last().unwrap() - found.len() as u64,
        lost,
        "each line is there or counted"
    );
    assert_eq!((world.pids("talk"), world.manager()), (pids, (daemon, keeper)));
}

#[test]
fn a_full_disk_for_the_state_refuses_changes_and_ends_nothing() {
    let world = World::new();
    if !world.disk(&world.home(), 1024) {
        return;
    }
    world.run(&["start", "sleep 1000", "--name", "a", "-i", "2"]).ok();
    let before = world.pids("a");
    let (daemon, keeper) = world.manager();
    let ballast = fill(&world.home());
    // The log of the database may have room for a few more.
    let mut desired = 2;
    let refusal = loop {
        let said = world.run(&["scale", "a", if desired == 2 { "3" } else { "2" }]);
        if said.code != 0 {
            break said;
        }
        desired = 5 - desired;
    };
    let refusal = refusal.refused(1, "the disk is full");
    assert!(refusal.err.contains("free some space"), "{}", refusal.err);
    for args in [
        &["start", "sleep 1000", "--name", "b"][..],
        &["stop", "a"],
        &["delete", "a"],
        &["scale", "a", "7"],
        &["save"],
    ] {
        let said = world.run(args);
        assert_eq!(said.code, 1, "{args:?}: {}{}", said.out, said.err);
        assert!(said.err.contains("the disk is full"), "{args:?}: {}", said.err);
    }
    assert_eq!(
        world.status()["apps"].as_array().unwrap().len(),
        1,
        "nothing of what was refused is there"
    );
    assert_eq!(world.instances("a").len(), desired);
    assert_eq!(world.pids("a")[..2], before);
    // What needs no new wish works: a crash is followed by a restart, a restart is done.
    world.run(&["signal", "a:0", "KILL"]).ok();
    world.until("it is restarted", || {
        world.states("a")[0] == "online" && world.pids("a")[0] != before[0]
    });
    world.run(&["restart", "a:1"]).ok();
    let now = world.pids("a");
    assert_eq!(world.manager(), (daemon, keeper));
    // Room again, and nothing else is needed.
    std::fs::remove_file(ballast).unwrap();
    world.until("it resumes", || !events(&world, "state_resumed").is_empty());
    let lost = events(&world, "state_lost");
    assert!(
        lost[0]["message"].as_str().unwrap().contains("the disk is full"),
        "{lost:?}"
    );
    assert!(
        events(&world, "exited").iter().any(|event| event["slot"] == 0),
        "what happened meanwhile is recorded"
    );
    assert_eq!(world.pids("a"), now);
    world.run(&["start", "sleep 1000", "--name", "b"]).ok();
    // And it is on the disk: as after a power cut of the manager.
    world.run(&["kill"]).ok();
    world.run(&["resurrect"]).ok();
    world.until("all are back", || {
        world.states("a") == vec!["online"; desired] && world.states("b") == ["online"]
    });
}

#[test]
fn a_daemon_that_dies_on_a_full_disk_comes_back_and_the_apps_never_notice() {
    let world = World::new();
    if !world.disk(&world.home(), 1024) {
        return;
    }
    world.run(&["start", "sleep 1000", "--name", "a", "-i", "2"]).ok();
    let before = world.pids("a");
    let (daemon, keeper) = world.manager();
    let ballast = fill(&world.home());
    let pid = rustix::process::Pid::from_raw(i32::try_from(daemon).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    world.until("the next one serves", || world.run(&["ping"]).code == 0);
    assert_eq!(
        (world.pids("a"), world.states("a")),
        (before.clone(), vec!["online".to_owned(); 2])
    );
    std::fs::remove_file(ballast).unwrap();
    world.until("changes are possible again", || {
        world.run(&["scale", "a", "3"]).code == 0
    });
    assert_eq!(world.pids("a")[..2], before);
    assert_eq!(world.manager().1, keeper);
}

#[test]
fn kill_works_on_a_full_disk() {
    let world = World::new();
    if !world.disk(&world.home(), 1024) {
        return;
    }
    world.run(&["start", "sleep 1000", "--name", "a", "-i", "2"]).ok();
    let ballast = fill(&world.home());
    world.run(&["kill"]).ok();
    world.until("nothing is left running", || world.processes().is_empty());
    std::fs::remove_file(ballast).unwrap();
    world.run(&["resurrect"]).ok();
    world.until("both are back", || world.states("a") == ["online", "online"]);
}

#[test]
fn a_disk_without_room_at_the_beginning_is_told_and_nothing_is_left() {
    let world = World::new();
    if !world.disk(&world.home(), 1024) {
        return;
    }
    let ballast = fill(&world.home());
    let said = world.run(&["start", "sleep 1000", "--name", "a"]);
    assert!(matches!(said.code, 1 | 5), "{}{}", said.out, said.err);
    assert!(
        said.err.contains(world.home().to_str().unwrap())
            && (said.err.contains("No space left on device") || said.err.contains("disk is full")),
        "{}",
        said.err
    );
    world.until("nothing is left running", || world.processes().is_empty());
    assert_eq!(said.out, "");
    std::fs::remove_file(ballast).unwrap();
    world.run(&["start", "sleep 1000", "--name", "a"]).ok();
    assert_eq!(world.states("a"), ["online"]);
}

#[test]
fn a_state_folder_that_cannot_be_written_is_told() {
    let world = World::new();
    if !world.disk(&world.home(), 1024) {
        return;
    }
    world.redisk(&world.home(), 1024, false);
    let said = world.run(&["start", "sleep 1000"]);
    assert_eq!(said.code, 5, "{}{}", said.out, said.err);
    assert!(
        said.err.contains(world.home().to_str().unwrap()) && said.err.contains("Read-only file system"),
        "{}",
        said.err
    );
    world.until("nothing is left running", || world.processes().is_empty());
    world.redisk(&world.home(), 1024, true);
    world.run(&["start", "sleep 1000"]).ok();
}

#[test]
fn a_file_in_place_of_a_folder_is_told() {
    for name in ["home", "home/logs"] {
        let world = World::new();
        world.file(name, "no folder");
        let said = world.run(&["start", "sleep 1000"]);
        assert_eq!(said.code, 5, "{}{}", said.out, said.err);
        assert!(
            said.err.contains("cannot create the folder") && said.err.contains(name),
            "{}",
            said.err
        );
        world.until("nothing is left running", || world.processes().is_empty());
        std::fs::remove_file(world.path().join(name)).unwrap();
        world.run(&["start", "sleep 1000"]).ok();
    }
}

#[test]
fn a_log_folder_that_cannot_be_written_costs_log_lines_only() {
    let world = World::new();
    world.run(&["start", "sleep 1000", "--name", "calm"]).ok();
    let (logs, away) = (world.home().join("logs"), world.home().join("away"));
    std::fs::rename(&logs, &away).unwrap();
    std::fs::write(&logs, "no folder").unwrap();
    world.file("talk", TALK);
    world.run(&["start", "./talk", "--name", "talk"]).ok();
    world.until("the loss is told", || !events(&world, "log_lost").is_empty());
    let message = events(&world, "log_lost")[0]["message"].to_string();
    assert!(message.contains("logs/talk-0-out.log"), "{message}");
    assert_eq!(world.states("talk"), ["online"]);
    world.run(&["restart", "talk"]).ok();
    world.run(&["logs", "talk", "--nostream"]);
    // The daemon can die, too: its log is nothing it needs.
    let (daemon, _) = world.manager();
    let pid = rustix::process::Pid::from_raw(i32::try_from(daemon).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    world.until("the next one serves", || {
        world.run(&["ping"]).code == 0 && world.manager().0 != daemon
    });
    assert_eq!(world.states("talk"), ["online"]);
    std::fs::remove_file(&logs).unwrap();
    world.until("it resumes", || !events(&world, "log_resumed").is_empty());
    world.until("lines arrive", || {
        std::fs::metadata(logs.join("talk-0-out.log")).is_ok_and(|file| file.len() > 10_000)
    });
}

#[test]
fn a_log_folder_that_becomes_read_only_resumes_too() {
    let world = World::new();
    let logs = world.home().join("logs");
    if !world.disk(&logs, 64 << 10) {
        return;
    }
    world.file("talk", TALK);
    world.file(
        "a.toml",
        "[[apps]]\nname = \"talk\"\ncmd = \"./talk\"\nout_file = \"home/logs/deep/er/talk.log\"\n",
    );
    let read_only = || {
        let flags = nix::mount::MsFlags::MS_REMOUNT | nix::mount::MsFlags::MS_RDONLY;
        nix::mount::mount(None::<&str>, &logs, None::<&str>, flags, None::<&str>).is_ok()
    };
    assert!(read_only());
    // Even the manager can be started: a log that cannot be written is no reason not to run.
    let said = world.run(&["start", "a.toml"]);
    if said.code != 0 {
        assert!(
            said.err.contains("Read-only file system") && said.err.contains("logs"),
            "{}",
            said.err
        );
        world.redisk(&logs, 64 << 10, true);
        world.run(&["start", "a.toml"]).ok();
    }
    world.redisk(&logs, 64 << 10, true);
    let log = logs.join("deep/er/talk.log");
    world.until("lines arrive", || {
        std::fs::metadata(&log).is_ok_and(|file| file.len() > 10_000)
    });
}

#[test]
fn a_stop_is_possible_on_a_full_disk_and_stays_one() {
    let world = World::new();
    if !world.disk(&world.home(), 24 << 10) {
        return;
    }
    world.run(&["start", "sleep 1000", "--name", "a", "-i", "2"]).ok();
    world.run(&["start", "sleep 1000", "--name", "b"]).ok();
    let ballast = fill(&world.home());
    // The log of the database may have room for some more.
    let mut count = 0;
    let refusal = loop {
        count = if count == 3 { 2 } else { 3 };
        let said = world.run(&["scale", "a", &count.to_string()]);
        if said.code != 0 {
            break said;
        }
    };
    refusal.refused(1, "the disk is full");
    world.run(&["stop", "a"]).ok();
    world.run(&["delete", "b"]).ok();
    assert!(world.states("a").iter().all(|state| state == "stopped"));
    assert!(
        events(&world, "state_lost").iter().any(|event| {
            let message = event["message"].as_str().unwrap();
            message.contains("the reserve beside the state file was given up")
        }),
        "{:?}",
        events(&world, "state_lost")
    );
    // It is on the disk.
    let (daemon, keeper) = world.manager();
    assert!(world.kill9(keeper) && world.kill9(daemon));
    world.until("they are back", || world.run(&["status"]).code == 0);
    assert!(world.states("a").iter().all(|state| state == "stopped"));
    assert_eq!(world.status()["apps"].as_array().unwrap().len(), 1);
    std::fs::remove_file(ballast).unwrap();
    world.until("changes are possible again", || world.run(&["start", "a"]).code == 0);
    assert!(world.home().join("clmgr.db-reserve").exists(), "it is taken again");
}

#[test]
fn logs_and_state_on_one_full_disk_both_resume() {
    let world = World::new();
    if !world.disk(&world.home(), 4 << 10) {
        return;
    }
    world.file("talk", TALK);
    world.run(&["start", "./talk", "--name", "talk"]).ok();
    let pids = world.pids("talk");
    world.until("log lines are lost", || !events(&world, "log_lost").is_empty());
    let refusal = (0..100)
        .map(|at| world.run(&["start", "sleep 1000", "--name", &format!("a{at}")]))
        .find(|said| said.code != 0);
    refusal.unwrap().refused(1, "the disk is full");
    assert_eq!(
        (world.pids("talk"), world.states("talk")),
        (pids.clone(), vec!["online".to_owned()])
    );
    world.redisk(&world.home(), 64 << 10, true);
    for kind in ["log_resumed", "state_resumed"] {
        world.until(kind, || !events(&world, kind).is_empty());
    }
    world.run(&["start", "sleep 1000", "--name", "z"]).ok();
    let log = world.home().join("logs/talk-0-out.log");
    let (found, lost) = numbers(&log);
    assert!(lost > 0);
    assert!(found.is_sorted_by(|one, other| one < other), "in order, none twice");
    assert_eq!(world.pids("talk"), pids);
}
