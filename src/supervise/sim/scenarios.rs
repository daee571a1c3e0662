//! Chosen histories: the fork bomb, the circuits, stopping, starting, deleting, shutting down.

use std::sync::Arc;

use super::specs::spec;
use super::world::World;
use crate::model::duration::Millis;
use crate::model::env::EnvMap;
use crate::model::event::EventKind;
use crate::model::outcome::{ErrorKind, Outcome};
use crate::model::spec::{AppSpec, Ready, RestartMode};
use crate::model::state::State;
use crate::model::target::{ScaleTo, Target};
use crate::supervise::Command;

pub(super) fn apply(apps: Vec<AppSpec>) -> Command {
    Command::Apply {
        apps,
        update_env: true,
        no_rollback: false,
    }
}

pub(super) fn all() -> Vec<Target> {
    vec![Target::All]
}

pub(super) fn one(slot: u32) -> Vec<Target> {
    vec![Target::Instance("api".parse().unwrap(), slot)]
}

fn start(targets: Vec<Target>) -> Command {
    Command::Start { targets, env: None }
}

/// An app that is up.
pub(super) fn up(program: &str, count: u32) -> World {
    let mut world = World::new(7);
    world.run(apply(vec![spec("api", program, count)])).unwrap();
    world
}

fn states(world: &World) -> Vec<State> {
    let app = world.app("api");
    (0..app.desired).map(|slot| app.slot_state(slot)).collect()
}

fn bomb(count: u32) -> AppSpec {
    AppSpec {
        ready: Ready::Spawn,
        ..spec("api", "crash", count)
    }
}

#[test]
fn a_fork_bomb_is_contained_and_defused() {
    let mut world = World::new(1);
    let began = world.now;
    world.ask(apply(vec![bomb(8)]));
    let mut opened = None;
    while world.now < began.after(Millis::from_secs(60)) {
        assert!(world.step());
        assert!(world.alive() <= 8);
        if opened.is_none() && world.app("api").circuit.is_open() {
            opened = Some(world.now);
        }
    }
    assert!(opened.unwrap() < began.after(Millis::from_secs(15)));
    assert!(world.spawns.len() <= 24, "{}", world.spawns.len());
    assert_eq!(world.count(EventKind::CircuitOpen), 1);
    assert_eq!(world.app("api").state(), State::Errored);
    let reason = world.app("api").reason.clone().unwrap();
    assert!(reason.contains("exit code 1"), "{reason}");
    world.pass(2_000_000);
    assert_eq!(
        world.count(EventKind::CircuitOpen),
        1,
        "failed probes are no new incident"
    );
    assert!(world.count(EventKind::CircuitProbe) >= 3);
    let lines = world
        .run(apply(vec![AppSpec {
            ready: Ready::Spawn,
            ..spec("api", "good", 8)
        }]))
        .unwrap();
    assert_eq!(lines.len(), 8);
    assert_eq!(states(&world), [State::Online; 8]);
}

#[test]
fn a_missing_variable_spawns_nothing_and_is_named() {
    let mut world = World::new(1);
    let mut app = spec("api", "good", 8);
    app.require.env = vec!["DATABASE_URL".into()];
    let error = world.run(apply(vec![app.clone()])).unwrap_err();
    assert!(error.message.contains("DATABASE_URL is not set"), "{}", error.message);
    assert!(world.spawns.is_empty());
    assert_eq!(states(&world), [State::Errored; 8]);
    world.pass(600_000);
    assert!(world.spawns.is_empty());
    assert_eq!(world.count(EventKind::CircuitOpen), 1);
    app.env_base = Arc::new(EnvMap::from([("DATABASE_URL".into(), "x".into())]));
    world.run(apply(vec![app])).unwrap();
    assert_eq!(states(&world), [State::Online; 8]);
}

#[test]
fn failed_probes_double_the_cooldown_and_a_good_one_lets_the_rest_follow() {
    let mut world = World::new(1);
    world.ask(apply(vec![bomb(3)]));
    world.pass(3_600_000);
    let probes: Vec<_> = world
        .log
        .iter()
        .filter(|(_, e)| e.message == "trying one instance")
        .map(|(at, _)| *at)
        .collect();
    let gaps: Vec<u64> = probes.windows(2).map(|pair| pair[1].since(pair[0]).0 / 1000).collect();
    assert_eq!(gaps[..5], [120, 240, 480, 600, 600]);
    // The world gets better by itself.
    let fixed = Arc::new(AppSpec {
        ready: Ready::Spawn,
        ..spec("api", "good", 3)
    });
    let id = world.app("api").id;
    let generation = world.app("api").generation;
    world
        .core
        .apps
        .get_mut(&id)
        .unwrap()
        .specs
        .insert(generation, Arc::clone(&fixed));
    world.disk.get_mut(&id).unwrap().spec = fixed;
    while world.count(EventKind::CircuitClosed) == 0 {
        world.step();
        assert!(world.alive() <= 1 || world.count(EventKind::CircuitClosed) == 1);
    }
    world.pass(2000);
    assert_eq!(states(&world), [State::Online; 3]);
}

#[test]
fn never_and_stop_codes_complete() {
    for (mode, program, codes) in [
        (RestartMode::Never, "once-3", vec![]),
        (RestartMode::OnFailure, "once", vec![]),
        (RestartMode::Always, "once-3", vec![3]),
    ] {
        let mut world = World::new(3);
        let mut app = spec("api", program, 2);
        app.restart.mode = mode;
        app.restart.stop_exit_codes = codes;
        world.run(apply(vec![app])).unwrap();
        world.pass(100_000);
        assert_eq!(states(&world), [State::Completed; 2], "{mode:?}");
        assert_eq!(world.spawns.len(), 2);
        world.run(Command::Reset { targets: all() }).unwrap();
        world.pass(10_000);
        assert_eq!(world.spawns.len(), 2, "resetting is not starting");
        world.run(start(all())).unwrap();
        assert_eq!(world.spawns.len(), 4);
    }
}

#[test]
fn not_ready_in_time_backs_off() {
    let mut world = World::new(3);
    let error = world.run(apply(vec![spec("api", "never-ready", 1)])).unwrap_err();
    assert!(error.message.contains("not ready after 30s"), "{}", error.message);
    assert_eq!(states(&world), [State::Backoff]);
    assert_eq!(world.count(EventKind::ReadyTimeout), 1);
}

#[test]
fn a_deaf_process_is_killed() {
    let mut world = up("deaf", 2);
    let lines = world.run(Command::Stop { targets: all() }).unwrap();
    assert!(lines.iter().all(|line| line.outcome == Outcome::Stopped));
    assert_eq!(world.count(EventKind::Killed), 2);
    assert_eq!(world.alive(), 0);
}

#[test]
fn a_stop_waits_for_descendants() {
    let mut world = up("family", 1);
    let from = world.now;
    world.run(Command::Stop { targets: all() }).unwrap();
    assert!(world.now >= from.after(Millis(9000)), "kill_timeout is theirs, too");
    assert!(world.procs.is_empty());
}

#[test]
fn stop_during_start_answers_both() {
    let mut world = World::new(3);
    let first = world.ask(apply(vec![spec("api", "never-ready", 2)]));
    world.pass(100);
    world.run(Command::Stop { targets: all() }).unwrap();
    let error = world.until_answered(first).unwrap_err();
    assert!(
        error.message.contains("stopped by another command"),
        "{}",
        error.message
    );
    world.pass(100_000);
    assert_eq!(world.spawns.len(), 2);
}

#[test]
fn the_same_file_twice_at_once_starts_once() {
    let mut world = World::new(3);
    let apps = vec![spec("api", "good", 4), spec("web", "good", 2)];
    let (first, second) = (world.ask(apply(apps.clone())), world.ask(apply(apps)));
    world.until_answered(first).unwrap();
    world.until_answered(second).unwrap();
    world.pass(10_000);
    assert_eq!(world.spawns.len(), 6);
}

#[test]
fn restart_starts_what_was_stopped() {
    let mut world = up("good", 2);
    world.run(Command::Stop { targets: all() }).unwrap();
    let lines = world
        .run(Command::Restart {
            targets: all(),
            env: None,
        })
        .unwrap();
    assert!(lines.iter().all(|line| line.outcome == Outcome::Restarted));
    assert_eq!(states(&world), [State::Online; 2]);
}

#[test]
fn one_instance_of_a_stopped_app_starts_alone() {
    for env in [
        None,
        Some(Arc::new(EnvMap::from([("COLOUR".to_owned(), "blue".into())]))),
    ] {
        let mut world = up("good", 3);
        world.run(Command::Stop { targets: all() }).unwrap();
        world.run(Command::Start { targets: one(1), env }).unwrap();
        world.daemon_dies();
        world.pass(10_000);
        assert_eq!(states(&world), [State::Stopped, State::Online, State::Stopped]);
    }
}

#[test]
fn restarting_one_leaves_the_back_off_of_the_others() {
    let mut world = World::new(3);
    let mut app = bomb(3);
    app.restart.max_restarts = 100;
    world.ask(apply(vec![app]));
    world.pass(600);
    assert_eq!(states(&world), [State::Backoff; 3]);
    world.ask(Command::Restart {
        targets: one(0),
        env: None,
    });
    world.pass(100);
    assert_eq!(
        states(&world),
        [State::Starting, State::Backoff, State::Backoff].map(|s| if s == State::Starting { State::Online } else { s })
    );
    world.pass(5000);
    assert!(world.spawns.len() > 6);
}

#[test]
fn one_of_an_open_circuit_brings_all_back() {
    let mut world = World::new(3);
    world.ask(apply(vec![bomb(3)]));
    world.pass(20_000);
    assert!(world.app("api").circuit.is_open());
    let before = world.spawns.len();
    world.ask(start(one(0)));
    world.pass(50);
    assert_eq!(world.spawns.len(), before + 3);
}

#[test]
fn a_held_instance_with_an_open_circuit_does_not_spin() {
    let mut world = World::new(3);
    let mut app = bomb(2);
    app.restart.max_restarts = 2;
    app.restart.cooldown = Some(Millis(5000));
    world.ask(apply(vec![app]));
    world.pass(4000);
    world.run(Command::Stop { targets: one(1) }).unwrap();
    world.pass(60_000);
    assert_eq!(world.app("api").slot_state(1), State::Stopped);
}

#[test]
fn delete_during_back_off_forgets_at_once() {
    let mut world = World::new(3);
    world.ask(apply(vec![bomb(1)]));
    world.pass(1000);
    assert_eq!(states(&world), [State::Backoff]);
    world.run(Command::Delete { targets: all() }).unwrap();
    assert!(world.core.apps.is_empty() && world.disk.is_empty());
    assert_eq!(world.core.poll_timeout(), None);
}

#[test]
fn a_full_disk_refuses_and_changes_nothing() {
    let mut world = up("good", 2);
    world.bad_disk = 1;
    let before = (world.exports(), world.disk.clone());
    for command in [
        apply(vec![spec("new", "good", 1)]),
        Command::Stop { targets: all() },
        Command::Stop { targets: one(1) },
        Command::Delete { targets: all() },
        Command::Scale {
            targets: all(),
            to: ScaleTo::Exactly(5),
        },
    ] {
        let error = world.run(command).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Storage);
        assert_eq!((world.exports(), world.disk.clone()), before);
    }
}

#[test]
fn shutdown_answers_everybody_and_starts_nothing() {
    let mut world = World::new(5);
    let apps = vec![
        spec("api", "never-ready", 2),
        spec("web", "deaf", 2),
        spec("job", "crash", 3),
    ];
    let first = world.ask(apply(apps));
    world.pass(300);
    let last = world.ask(Command::Shutdown);
    let late = world.ask(start(all()));
    world.down = true;
    assert!(world.until_answered(first).is_err());
    world.until_answered(last).unwrap();
    assert_eq!(world.until_answered(late).unwrap_err().kind, ErrorKind::Unavailable);
    assert!(world.core.is_shut_down());
    assert!(world.disk.values().all(|row| row.wanted), "what is wanted stays wanted");
    world.pass(600_000);
    assert!(world.procs.is_empty());
}

#[test]
fn scaling_by_file_keeps_what_runs() {
    let mut world = up("good", 2);
    world.run(apply(vec![spec("api", "good", 5)])).unwrap();
    assert_eq!(world.spawns.len(), 5);
    world
        .run(Command::Scale {
            targets: all(),
            to: ScaleTo::By(-3),
        })
        .unwrap();
    assert_eq!(world.alive(), 2);
    assert!(
        world
            .run(Command::Scale {
                targets: all(),
                to: ScaleTo::By(-2)
            })
            .is_err()
    );
}

#[test]
fn a_start_overtaken_stop_is_answered() {
    let mut world = up("deaf", 1);
    let stop = world.ask(Command::Stop { targets: all() });
    world.pass(100);
    let begin = world.ask(start(all()));
    world.until_answered(stop).unwrap();
    world.until_answered(begin).unwrap();
    assert_eq!(states(&world), [State::Online]);
}

#[test]
fn what_sigkill_does_not_end_is_reported_and_nothing_hangs() {
    for command in [
        Command::Stop { targets: all() },
        Command::Restart {
            targets: all(),
            env: None,
        },
        Command::Delete { targets: all() },
        Command::Shutdown,
    ] {
        let mut world = up("undead", 2);
        let error = world.run(command).unwrap_err();
        assert!(error.message.contains("SIGKILL"), "{}", error.message);
        world.pass(60_000);
        assert_eq!(world.alive(), 2, "nothing takes their place");
    }
}

#[test]
fn a_stop_is_answered_when_what_is_left_does_not_die() {
    let mut world = up("stuck-family", 1);
    let began = world.now;
    let error = world.run(Command::Stop { targets: all() }).unwrap_err();
    assert!(world.now < began.after(Millis::from_secs(40)), "{:?}", world.now);
    let message = &error.message;
    assert!(message.contains("a process that it left is still there"), "{message}");
    // Its slot is taken until it is gone.
    let spawns = world.spawns.len();
    world.pass(5_000);
    assert_eq!(world.spawns.len(), spawns);
    world.pass(200_000);
    assert_eq!(states(&world), [State::Stopped]);
    world.run(start(all())).unwrap();
    assert_eq!(states(&world), [State::Online]);
}
