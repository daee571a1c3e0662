//! A pid is not an identity: processes that are not ours are never signalled and never taken over, whatever the
//! state file says.

use std::process::{Child, Command, Stdio};

use rusqlite::{Connection, params};

use crate::harness::{World, lives, rest};

/// A process that has nothing to do with clmgr, gone with this value.
struct Bystander(Child);

impl Bystander {
    fn new() -> Self {
        let child = Command::new("sleep")
            .arg("1000")
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }

    fn pid(&self) -> i64 {
        self.0.id().into()
    }

    fn alive(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

/// Changes the state file; nothing of clmgr runs.
fn edit(world: &World, sql: &str, values: impl rusqlite::Params) {
    let file = Connection::open(world.home().join("clmgr.db")).unwrap();
    assert_eq!(file.execute(sql, values).unwrap(), 1, "{sql}");
}

#[test]
fn a_process_with_another_start_time_is_not_adopted_and_never_doubled() {
    let world = World::new();
    for name in ["kept", "other"] {
        world.run(&["start", "sleep 1000", "--name", name]).ok();
    }
    let (kept, other) = (world.pids("kept")[0], world.pids("other")[0]);
    world.kill_both();
    edit(
        &world,
        "UPDATE runs SET start_ticks = start_ticks + 1 WHERE pid = ?1",
        [other],
    );
    world.run(&["status"]).ok();
    world.until("both run", || {
        world.states("kept") == ["online"] && world.states("other") == ["online"]
    });
    assert_eq!(world.pids("kept")[0], kept, "this one is the same");
    assert_ne!(world.pids("other")[0], other, "not adopted");
    // It carries the mark of the run in its environment, so it is what was left of that run, and was swept away
    // before the replacement began.
    assert!(!lives(other), "never two in one slot");
}

#[test]
fn a_process_of_another_boot_is_not_adopted() {
    let world = World::new();
    world.run(&["start", "sleep 1000", "--name", "a"]).ok();
    let old = world.pids("a")[0];
    world.kill_both();
    edit(
        &world,
        "UPDATE runs SET boot_id = '00000000-0000-0000-0000-000000000000' WHERE pid = ?1",
        [old],
    );
    world.run(&["status"]).ok();
    world.until("it runs", || world.states("a") == ["online"]);
    assert_ne!(world.pids("a")[0], old);
    assert!(!lives(old), "what carries the mark of the run is swept away first");
}

#[test]
fn a_pid_that_was_given_to_somebody_else_is_never_signalled() {
    let world = World::new();
    let mut bystander = Bystander::new();
    world.run(&["start", "sleep 1000", "--name", "a"]).ok();
    let old = world.pids("a")[0];
    world.kill_both();
    assert!(world.kill9(old));
    world.until("its end", || !lives(old));
    edit(
        &world,
        "UPDATE runs SET pid = ?1 WHERE pid = ?2",
        params![bystander.pid(), old],
    );
    world.run(&["status"]).ok();
    world.until("a new one", || {
        let pid = world.pids("a")[0];
        pid != 0 && pid != bystander.pid()
    });
    assert!(bystander.alive());
    for command in [["stop", "a"], ["start", "a"], ["restart", "a"], ["delete", "a"]] {
        world.run(&command).ok();
        assert!(bystander.alive(), "{command:?}");
    }
    world.run(&["kill"]).ok();
    rest(50);
    assert!(bystander.alive());
}

#[test]
fn a_row_of_an_app_nobody_knows_is_no_licence_to_kill() {
    let world = World::new();
    let mut bystander = Bystander::new();
    world.run(&["start", "sleep 1000", "--name", "a"]).ok();
    world.kill_both();
    // No such app, no such start time; a start time of zero is one that could not be read.
    for (run, ticks) in [(900_001, 0), (900_002, 1), (900_003, i64::MAX)] {
        edit(
            &world,
            "INSERT INTO runs (run, app_id, slot, pid, start_ticks, boot_id, started_at)
             SELECT ?1, 4711, 0, ?2, ?3, boot_id, started_at FROM runs WHERE run < 900000 LIMIT 1",
            params![run, bystander.pid(), ticks],
        );
    }
    world.run(&["status"]).ok();
    world.until("its app", || world.states("a") == ["online"]);
    world.run(&["kill"]).ok();
    assert!(bystander.alive());
}
