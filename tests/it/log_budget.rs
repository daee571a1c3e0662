//! What apps that write may cost the daemon, in numbers that no machine changes: memory, descriptors.

use std::fmt::Write as _;
use std::fs;

use crate::harness::World;

/// Apps in each test.
const APPS: i64 = 50;

/// Each may keep so many descriptors open in the daemon, all told: two pipes, two files, two time indexes, and what
/// says when it ends.
const DESCRIPTORS: i64 = 8;

/// Memory that a flood from all apps at once may add, in KiB; the limits of the buffers add up to less.
const FLOOD: i64 = 6 << 10;

/// Bytes that have to be written before the memory counts.
const WRITTEN: u64 = 64 << 20;

/// One app for each format in turn, which does this.
fn apps(command: &str, keys: &str) -> String {
    let formats = [
        "",
        "time = true",
        "log_type = \"json\"",
        "merge_logs = true\nlog_file = \"both.log\"",
    ];
    let mut text = String::new();
    for (number, format) in (0..APPS).zip(formats.iter().cycle()) {
        let format = format.replace("both", &format!("both{number}"));
        writeln!(
            text,
            "[[apps]]\nname = \"a{number}\"\ncmd = {command}\n{format}\n{keys}"
        )
        .unwrap();
    }
    text
}

/// A number of `/proc/<pid>/status`.
fn field(pid: i64, name: &str) -> i64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

fn descriptors(pid: i64) -> i64 {
    i64::try_from(fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()).unwrap()
}

#[test]
fn an_app_that_writes_keeps_few_descriptors_open() {
    let world = World::new();
    world.file("none.toml", "[[apps]]\nname = \"first\"\ncmd = \"sleep 1000\"\n");
    world.run(&["start", "none.toml"]).ok();
    let (daemon, _) = world.manager();
    let before = descriptors(daemon);
    let command = "[\"sh\", \"-c\", \"echo out; echo err >&2; exec sleep 1000\"]";
    world.file("ecosystem.toml", &apps(command, "ready = { log = \"out\" }"));
    world.run(&["start"]).ok();
    let logs = || {
        let out = world.run(&["logs", "all", "--nostream", "--raw"]).ok().out;
        out.lines().filter(|line| line.contains("err")).count()
    };
    world.until("all have written", || i64::try_from(logs()).unwrap() >= APPS);
    // Requests that have just ended still have theirs.
    let most = before + DESCRIPTORS * APPS;
    world.until("few descriptors are open", || descriptors(daemon) <= most);
}

#[test]
fn a_flood_from_many_apps_needs_no_memory() {
    let world = World::new();
    world.file("none.toml", "[[apps]]\nname = \"first\"\ncmd = \"sleep 1000\"\n");
    world.run(&["start", "none.toml"]).ok();
    let (daemon, _) = world.manager();
    let line = "x".repeat(99);
    // Two small rotated files each: the disk of the test is not flooded.
    let keys = "log_rotate = { size = \"1M\", keep = 2, compress = false }";
    world.file("ecosystem.toml", &apps(&format!("[\"yes\", \"{line}\"]"), keys));
    let (memory, written) = (field(daemon, "RssAnon:"), written(daemon));
    world.run(&["start"]).ok();
    let mut most = 0;
    world.until("the apps have written much", || {
        most = most.max(field(daemon, "RssAnon:") - memory);
        self::written(daemon) - written > WRITTEN
    });
    assert!(most <= FLOOD, "a flood takes {most} KiB, more than {FLOOD}");
}

/// Bytes that a process has written so far, to whatever.
fn written(pid: i64) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/io")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("wchar: ")).unwrap();
    line.parse().unwrap()
}
