//! The state is damaged under a living manager: the file is kept aside, its backup is taken, and whatever runs goes on
//! under its name, with or without a backup, with or without a keeper.

use std::fs;
use std::io::Write;

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{World, lives};

fn signal(process: i64, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(process).unwrap()).unwrap(), signal).unwrap();
}

/// Three apps: one with two instances, one with a log, one that is stopped.
fn furnished() -> World {
    let world = World::new();
    world.file(
        "talk",
        "#!/bin/sh\ni=0\nwhile :; do i=$((i+1)); echo $i; sleep 0.02; done\n",
    );
    world.run(&["start", "sleep 1000", "--name", "a", "-i", "2"]).ok();
    world.run(&["start", "./talk", "--name", "talk"]).ok();
    world.run(&["start", "sleep 1000", "--name", "quiet"]).ok();
    world.run(&["stop", "quiet"]).ok();
    world
}

/// Ends the daemon, and the keeper if asked, changes files while nobody has them open, and lets things go on.
fn meanwhile(world: &World, keeper_too: bool, change: impl FnOnce()) {
    let (daemon, keeper) = world.manager();
    signal(keeper, Signal::STOP);
    assert!(world.kill9(daemon));
    world.until("the daemon is gone", || !lives(daemon));
    if keeper_too {
        assert!(world.kill9(keeper));
        world.until("the keeper is gone", || !lives(keeper));
    }
    change();
    if !keeper_too {
        signal(keeper, Signal::CONT);
    }
    world.until("somebody answers", || world.run(&["status"]).code == 0);
}

/// Nothing that can be read is left of the state.
fn destroy(world: &World) {
    let db = world.home().join("clmgr.db");
    fs::write(db.with_extension("db-wal"), "").unwrap();
    let mut file = fs::OpenOptions::new().write(true).open(db).unwrap();
    file.write_all(&[0x5a; 8192]).unwrap();
}

fn tells(world: &World, words: &str) {
    let told = world.events();
    let told: Vec<&str> = told
        .iter()
        .filter(|event| event["kind"] == "state_lost")
        .filter_map(|event| event["message"].as_str())
        .collect();
    assert!(told.iter().any(|message| message.contains(words)), "{told:?}");
}

fn is_told(world: &World, words: &str) {
    tells(world, words);
    let aside = fs::read_dir(world.home()).unwrap();
    let aside = aside.filter(|entry| {
        let name = entry.as_ref().unwrap().file_name().into_string().unwrap();
        name.starts_with("clmgr.db.damaged-") && !name.ends_with("-wal")
    });
    assert_eq!(aside.count(), 1);
}

fn log_grows(world: &World) {
    let log = world.home().join("logs/talk-0-out.log");
    let size = fs::metadata(&log).unwrap().len();
    world.until("lines arrive", || fs::metadata(&log).unwrap().len() > size + 100);
    let text = fs::read_to_string(&log).unwrap();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let numbers: Vec<u64> = whole.lines().filter_map(|line| line.parse().ok()).collect();
    assert!(
        numbers.windows(2).all(|pair| pair[1] == pair[0] + 1),
        "a line is missing"
    );
}

#[test]
fn with_its_backup_everything_is_as_it_was() {
    for (keeper_too, emptied) in [(false, false), (true, true)] {
        let world = furnished();
        world.until("a backup of the last change", || {
            let backup = world.home().join("clmgr.db.bak");
            let copy = world.path().join("copy.db");
            fs::copy(backup, &copy).is_ok_and(|_| {
                let copy = rusqlite::Connection::open(&copy).unwrap();
                let stopped = copy.query_row("SELECT count(*) FROM apps WHERE wanted = 'stopped'", [], |row| {
                    row.get::<_, i64>(0)
                });
                stopped.is_ok_and(|count| count == 1)
            })
        });
        let before = (world.pids("a"), world.pids("talk"));
        meanwhile(&world, keeper_too, || {
            if emptied {
                fs::write(world.home().join("clmgr.db"), "").unwrap();
            } else {
                destroy(&world);
            }
        });
        assert_eq!((world.pids("a"), world.pids("talk")), before);
        assert_eq!(world.states("a"), ["online", "online"]);
        assert_eq!(world.states("quiet"), ["stopped"]);
        is_told(&world, "its backup of 20");
        log_grows(&world);
        // And it is an ordinary state again, for this daemon and the next.
        meanwhile(&world, keeper_too, || {});
        assert_eq!((world.pids("a"), world.pids("talk")), before);
        world.run(&["restart", "a"]).ok();
        world.run(&["stop", "talk"]).ok();
        assert_eq!(world.processes().len(), 4, "two of a, keeper, daemon");
    }
}

#[test]
fn what_the_backup_does_not_know_is_told_by_the_processes() {
    for keeper_too in [false, true] {
        let world = furnished();
        world.until("a backup", || world.home().join("clmgr.db.bak").exists());
        // Later than any backup.
        world.run(&["scale", "a", "4"]).ok();
        world.run(&["start", "sleep 1000", "--name", "late"]).ok();
        world.run(&["restart", "a:0"]).ok();
        let before = (world.pids("a"), world.pids("late"), world.pids("talk"));
        meanwhile(&world, keeper_too, || {
            // As if it had been made before.
            let backup = rusqlite::Connection::open(world.home().join("clmgr.db.bak")).unwrap();
            backup
                .execute_batch(
                    "DELETE FROM apps WHERE name = 'late';
                     UPDATE apps SET desired_instances = 2 WHERE name = 'a'",
                )
                .unwrap();
            destroy(&world);
        });
        assert_eq!((world.pids("a"), world.pids("late"), world.pids("talk")), before);
        log_grows(&world);
        world.run(&["stop", "late"]).ok();
        assert!(!lives(before.1[0]));
    }
}

#[test]
fn without_a_backup_what_runs_goes_on_under_its_name() {
    for keeper_too in [false, true] {
        let world = furnished();
        let before = (world.pids("a"), world.pids("talk"));
        meanwhile(&world, keeper_too, || {
            let _none = fs::remove_file(world.home().join("clmgr.db.bak"));
            destroy(&world);
        });
        is_told(&world, "there is no backup");
        assert_eq!((world.pids("a"), world.pids("talk")), before);
        log_grows(&world);
        // What /proc told is enough to start it again.
        world.run(&["restart", "all"]).ok();
        assert_eq!(world.states("a"), ["online", "online"]);
        assert_eq!(world.states("talk"), ["online"]);
        assert!(!lives(before.0[0]) && !lives(before.1[0]));
        // The script's own child comes and goes.
        world.until("two of a, talk, keeper, daemon", || world.processes().len() == 5);
    }
}

#[test]
fn processes_of_an_app_that_cannot_be_read_live_on() {
    for keeper_too in [false, true] {
        let world = furnished();
        let before = (world.pids("a"), world.pids("talk"));
        meanwhile(&world, keeper_too, || {
            let state = rusqlite::Connection::open(world.home().join("clmgr.db")).unwrap();
            let sql = r#"UPDATE apps SET spec = '{"from":"another build"}' WHERE name = 'a'"#;
            assert_eq!(state.execute(sql, []).unwrap(), 1);
        });
        tells(&world, "the app a in the state file cannot be read");
        tells(&world, "go on without a manager");
        assert!(before.0.iter().all(|pid| lives(*pid)), "{before:?}");
        assert_eq!(world.pids("talk"), before.1);
        // Nobody else ends them now.
        for pid in before.0 {
            signal(pid, Signal::KILL);
        }
    }
}
