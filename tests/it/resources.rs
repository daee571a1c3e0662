//! The machine runs out of something: descriptors, processes, memory. Apps that run go on, what cannot be started is
//! told and tried again, and everything resumes by itself.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::harness::{Said, World, finish, said};

fn pid(number: i64) -> Pid {
    Pid::from_raw(i32::try_from(number).unwrap()).unwrap()
}

/// Changes the soft limit of open files of a living process; what it was.
fn limit_files(process: i64, soft: u64) -> Rlimit {
    let line = "Max open files";
    let text = fs::read_to_string(format!("/proc/{process}/limits")).unwrap();
    let mut fields = text.lines().find(|known| known.starts_with(line)).unwrap()[line.len()..].split_whitespace();
    let limit = Rlimit {
        current: Some(soft),
        maximum: fields.nth(1).unwrap().parse().ok(),
    };
    prlimit(Some(pid(process)), Resource::Nofile, limit).unwrap()
}

fn restore(process: i64, before: Rlimit) {
    prlimit(Some(pid(process)), Resource::Nofile, before).unwrap();
}

fn open_files(process: i64) -> u64 {
    fs::read_dir(format!("/proc/{process}/fd")).unwrap().count() as u64
}

fn skipped(why: &str) {
    let _untold = writeln!(std::io::stderr(), "SKIPPED: {why}");
}

/// What `describe` says of why the first instance does not run.
fn reason(world: &World, app: &str) -> String {
    world.describe(app).to_string()
}

#[test]
fn manager_processes_are_killed_last_and_apps_and_helpers_are_not_protected() {
    let world = World::new();
    world.file("ready", "#!/bin/sh\ncat /proc/self/oom_score_adj > helper-score\n");
    world.file(
        "a.toml",
        "[[apps]]\nname = \"a\"\ncmd = \"sleep 1000\"\nready = { exec = \"./ready\" }\n",
    );
    world.run(&["start", "a.toml"]).ok();
    let score = |process: i64| {
        let text = fs::read_to_string(format!("/proc/{process}/oom_score_adj")).unwrap();
        text.trim().parse::<i32>().unwrap()
    };
    let own = score(i64::from(std::process::id())).max(0);
    let (daemon, keeper) = world.manager();
    if score(keeper) != -900 {
        assert!(!rustix::process::geteuid().is_root() || score(keeper) == own);
        skipped("this user may not protect a process");
        return;
    }
    assert_eq!((score(daemon), score(world.pids("a")[0])), (-900, own));
    assert_eq!(world.text("helper-score").trim(), own.to_string());
    // A keeper that a protected daemon has started protects itself, and nobody else, too.
    assert!(world.kill9(keeper));
    world.until("a new keeper", || {
        let ping = world.run(&["ping", "--json"]);
        ping.code == 0 && ping.json()["keeper_pid"].as_i64() != Some(keeper)
    });
    world.run(&["start", "sleep 1000", "--name", "b"]).ok();
    let (daemon, keeper) = world.manager();
    assert_eq!((score(daemon), score(keeper)), (-900, -900));
    assert_eq!(score(world.pids("b")[0]), own);
}

#[test]
fn a_keeper_without_descriptors_says_so_and_goes_on_when_there_are_some() {
    let world = World::new();
    world.run(&["start", "sleep 1000", "--name", "a", "-i", "2"]).ok();
    let before = world.pids("a");
    let (daemon, keeper) = world.manager();
    let limits = limit_files(keeper, open_files(keeper) + 4);
    let told = world.run(&["start", "sleep 1000", "--name", "b"]);
    told.refused(1, "the limit of open files of the keeper is reached");
    // It may be trying again just now.
    world.until("it waits", || world.states("b") == ["backoff"]);
    assert!(
        reason(&world, "b").contains("limit of open files"),
        "{}",
        reason(&world, "b")
    );
    // What it has is enough for what it is there for: an exit is heard of.
    assert!(world.kill9(before[0]));
    world.until("the exit", || world.count_events("exited", "a") == 1);
    assert_eq!(world.pids("a")[1], before[1]);
    restore(keeper, limits);
    world.until("both start by themselves", || {
        world.states("a") == ["online", "online"] && world.states("b") == ["online"]
    });
    assert_eq!(world.manager(), (daemon, keeper));
    assert_eq!(world.count_events("circuit_open", "b"), 0);
}

#[test]
fn a_daemon_without_descriptors_refuses_what_it_cannot_hold_and_loses_nothing() {
    let world = World::new();
    world.run(&["start", "sleep 1000", "--name", "a", "-i", "2"]).ok();
    let before = world.pids("a");
    let (daemon, keeper) = world.manager();
    let limits = limit_files(daemon, open_files(daemon) + 30);
    let told = world.run(&["start", "sleep 1000", "--name", "b", "-i", "20"]);
    told.refused(1, "the limit of open files of clmgr is nearly reached");
    assert_eq!(world.pids("a"), before);
    let alive = world.pids("b").iter().filter(|pid| **pid != 0).count();
    assert!(alive < 20, "{alive}");
    // No descriptor at all: clients wait, and nothing else happens.
    limit_files(daemon, 3);
    let waiting = world.begin(&["ping", "--json"]);
    limit_files(daemon, open_files(daemon) + 30);
    finish(waiting, &["ping"]).ok();
    restore(daemon, limits);
    world.until("all start by themselves", || world.states("b") == vec!["online"; 20]);
    assert_eq!((world.manager(), world.pids("a")), ((daemon, keeper), before));
    assert_eq!(world.processes().len(), 24, "two and twenty apps, keeper, daemon");
    assert_eq!(world.count_events("circuit_open", "b"), 0);
}

/// Runs the program under a hard limit of open files.
fn under(world: &World, files: u32, args: &[&str]) -> Said {
    let plain = world.command(&[]);
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            &format!("ulimit -n {files} && exec \"$0\" \"$@\""),
            env!("CARGO_BIN_EXE_clmgr"),
        ])
        .args(args)
        .current_dir(world.path())
        .env_clear();
    command
        .envs(plain.get_envs().filter_map(|(key, value)| Some((key, value?))))
        .stdin(Stdio::null());
    said(command)
}

#[test]
fn under_a_low_hard_limit_as_many_run_as_can_be_held_and_commands_always_work() {
    let world = World::new();
    let told = under(&world, 256, &["start", "sleep 1000", "--name", "a", "-i", "60"]);
    told.refused(1, "limit of open files");
    let online = world.states("a").iter().filter(|state| *state == "online").count();
    assert!((5..40).contains(&online), "{online}");
    for _ in 0..20 {
        world.run(&["status"]).ok();
    }
    world.run(&["scale", "a", "3"]).ok();
    assert_eq!(world.states("a"), ["online"; 3]);
    let (daemon, _) = world.manager();
    assert!(world.kill9(daemon));
    world.until("another daemon", || {
        world.run(&["ping"]).code == 0 && world.manager().0 != daemon
    });
    assert_eq!(world.states("a"), ["online"; 3]);
}

#[test]
fn a_machine_without_processes_is_retried_and_no_circuit_opens() {
    let world = World::new();
    if !rustix::process::geteuid().is_root() {
        skipped("only root can become another user, and for root there is no limit of processes");
        return;
    }
    for app in ["a", "b"] {
        let text = format!(
            "[[apps]]\nname = \"{app}\"\ncmd = \"sleep 1000\"\nbackoff = {{ first = \"100ms\", max = \"200ms\" }}\n"
        );
        world.file(&format!("{app}.toml"), &text);
    }
    // A user that nobody else is.
    let user = 2_000_000 + std::process::id();
    fs::create_dir_all(world.home()).unwrap();
    for path in [world.path().to_owned(), world.home()] {
        std::os::unix::fs::chown(path, Some(user), Some(user)).unwrap();
    }
    let as_user = |program: &str, args: &[&str]| {
        use std::os::unix::process::CommandExt;
        let plain = world.command(&[]);
        let mut command = Command::new(program);
        command.args(args).current_dir(world.path()).env_clear();
        command.envs(plain.get_envs().filter_map(|(key, value)| Some((key, value?))));
        command.stdin(Stdio::null()).uid(user).gid(user);
        command
    };
    let script = "ulimit -u 60 && exec \"$0\" \"$@\"";
    let first = as_user("bash", &["-c", script, env!("CARGO_BIN_EXE_clmgr"), "start", "a.toml"]);
    let first = said(first);
    if first.code == 126 {
        skipped("the program cannot be run by another user");
        return;
    }
    first.ok();
    assert_eq!(fs::metadata(world.home().join("clmgr.db")).unwrap().uid(), user);
    let (daemon, keeper) = world.manager();
    // The user has no process left, by others that have nothing to do with it.
    let mut crowd: Vec<Child> = (0..60).map(|_| as_user("sleep", &["1000"]).spawn().unwrap()).collect();
    let told = world.run(&["start", "b.toml"]);
    told.refused(1, "the limit of processes is reached");
    // It is tried several times a second.
    world.until("the reason is shown", || {
        world.states("b") == ["backoff"] && reason(&world, "b").contains("the limit of processes is reached")
    });
    assert!(world.kill9(world.pids("a")[0]));
    world.until("it is tried more often than any circuit allows", || {
        world.count_events("spawn_failed", "b") > 8
    });
    assert!(["backoff", "starting"].contains(&world.states("a")[0].as_str()));
    for app in ["a", "b"] {
        assert_eq!(world.count_events("circuit_open", app), 0);
        assert!(world.count_events("backoff", app) > 0);
    }
    for other in &mut crowd {
        other.kill().unwrap();
        other.wait().unwrap();
    }
    world.until("both start by themselves", || {
        world.states("a") == ["online"] && world.states("b") == ["online"]
    });
    assert_eq!(world.manager(), (daemon, keeper));
}
