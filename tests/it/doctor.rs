//! `clmgr doctor`: what is in order and what is not, and nothing is changed by asking.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::harness::World;

/// The findings about one thing.
fn findings(world: &World, check: &str) -> Vec<Value> {
    let said = world.run(&["doctor", "--json"]);
    let report = said.json();
    let checks = report["checks"].as_array().unwrap();
    let attention = checks.iter().any(|check| check["verdict"] == "attention");
    assert_eq!(
        (said.code, &report["ok"]),
        (i32::from(attention), &Value::from(!attention))
    );
    checks.iter().filter(|known| known["check"] == check).cloned().collect()
}

fn finding(world: &World, check: &str) -> Value {
    let mut all = findings(world, check);
    assert_eq!(all.len(), 1, "{check}: {all:?}");
    all.remove(0)
}

fn verdict(world: &World, check: &str) -> String {
    finding(world, check)["verdict"].as_str().unwrap().to_owned()
}

#[test]
fn it_works_where_nothing_runs_and_starts_nothing() {
    let world = World::new();
    for check in ["manager", "state folder", "log folder", "database"] {
        assert_eq!(verdict(&world, check), "note", "{check}");
    }
    assert!(!world.home().exists() && world.processes().is_empty());
    world.run(&["start", "sleep 1000", "--name", "a"]).ok();
    for check in [
        "manager",
        "keeper",
        "daemon",
        "version",
        "state folder",
        "log folder",
        "database",
        "clock",
    ] {
        assert_eq!(verdict(&world, check), "ok", "{check}");
    }
    let table = world.run(&["doctor"]);
    assert!(
        table.out.contains("manager") && table.out.contains("checks, "),
        "{}",
        table.out
    );
    world.run(&["kill"]).ok();
    let manager = finding(&world, "manager");
    assert_eq!(manager["verdict"], "attention");
    assert!(manager["next"].as_str().unwrap().contains("clmgr resurrect"));
    world.until("nothing runs", || world.processes().is_empty());
}

#[test]
fn it_sees_folders_that_are_wrong() {
    let world = World::new();
    world.run(&["start", "sleep 1000", "--name", "a"]).ok();
    let mode = |path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    mode(world.home(), 0o755);
    let found = finding(&world, "state folder");
    assert!(found["next"].as_str().unwrap().starts_with("chmod 700 "), "{found}");
    mode(world.home(), 0o700);
    mode(world.home().join("logs"), 0o777);
    assert_eq!(verdict(&world, "log folder"), "attention");
    mode(world.home().join("logs"), 0o750);
    assert_eq!(verdict(&world, "log folder"), "ok");
    assert_eq!(verdict(&world, "state folder"), "ok");
}

#[test]
fn it_sees_a_disk_that_is_full_or_read_only() {
    let world = World::new();
    if !world.disk(&world.home(), 1024) {
        return;
    }
    let found = finding(&world, "state folder");
    assert_eq!(found["verdict"], "attention");
    assert!(found["message"].as_str().unwrap().contains("left"), "{found}");
    world.redisk(&world.home(), 1 << 20, false);
    let found = finding(&world, "state folder");
    assert!(found["message"].as_str().unwrap().contains("read-only"), "{found}");
    world.redisk(&world.home(), 1 << 20, true);
    assert_eq!(verdict(&world, "state folder"), "ok");
}

#[test]
fn it_sees_a_binary_that_was_replaced() {
    let world = World::new();
    let copy = world.path().join("clmgr");
    std::fs::copy(env!("CARGO_BIN_EXE_clmgr"), &copy).unwrap();
    let plain = world.command(&[]);
    let mut command = Command::new(&copy);
    command
        .args(["start", "sleep 1000"])
        .current_dir(world.path())
        .env_clear();
    command.envs(plain.get_envs().filter_map(|(key, value)| Some((key, value?))));
    crate::harness::said(command).ok();
    let keeper = finding(&world, "keeper");
    assert_eq!(
        (&keeper["verdict"], &keeper["next"]),
        (&"attention".into(), &"clmgr upgrade".into())
    );
    std::fs::remove_file(&copy).unwrap();
    let daemon = finding(&world, "daemon");
    assert!(
        daemon["message"].as_str().unwrap().contains("removed or replaced"),
        "{daemon}"
    );
}

#[test]
fn it_finds_processes_that_no_manager_knows_and_leaves_them_alone() {
    let world = World::new();
    world.run(&["start", "sleep 1000", "--name", "a"]).ok();
    let mut lost = Command::new("sleep")
        .arg("1000")
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("CLMGR_RUN", format!("{:016x}.7", std::process::id()))
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let told = |pid: i64| {
        let pid = format!("process {pid} ");
        let orphans = findings(&world, "orphan");
        orphans
            .iter()
            .any(|orphan| orphan["message"].as_str().unwrap().contains(&pid))
    };
    let stranger = i64::from(lost.id());
    world.until("it has its environment", || told(stranger));
    assert!(!told(world.pids("a")[0]), "ours is known");
    assert!(crate::harness::lives(stranger));
    lost.kill().unwrap();
    lost.wait().unwrap();
    assert!(!told(stranger));
    // Without its manager even ours is one, until that is back.
    let app = world.pids("a")[0];
    let (daemon, keeper) = world.manager();
    let halt = |pid: i64| {
        let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    };
    halt(keeper);
    halt(daemon);
    assert!(world.kill9(keeper) && world.kill9(daemon));
    world.until("both are gone", || world.processes().len() == 1);
    assert!(told(app));
    world.run(&["status"]).ok();
    assert!(!told(app));
    assert_eq!(world.pids("a"), [app]);
}

#[test]
fn a_socket_path_that_is_too_long_is_a_finding() {
    let world = World::new();
    let mut command = world.command(&["doctor", "--json"]);
    command.env("CLMGR_HOME", world.path().join("x".repeat(120)));
    let said = crate::harness::said(command);
    assert_eq!(
        (said.code, said.json()["checks"][0]["check"].as_str()),
        (1, Some("home"))
    );
}
