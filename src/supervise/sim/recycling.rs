//! Replacements without blame: what asks for it, what is old; and what gets more time, and what reloads itself.

use super::scenarios::{all, apply, up};
use super::specs::spec;
use super::unhealthy::run_in;
use super::world::World;
use crate::model::duration::Millis;
use crate::model::event::EventKind;
use crate::model::health::MaxAge;
use crate::model::listen::ListenSpec;
use crate::model::names::RunId;
use crate::model::spec::{AppSpec, Order};
use crate::model::state::State;
use crate::supervise::{Command, Input};

fn recycle(world: &mut World, run: RunId) {
    world.feed(Input::Recycle(run, "10000 requests answered".to_owned()));
}

#[test]
fn those_that_ask_are_replaced_one_after_the_other_and_nobody_is_missing() {
    let mut world = World::new(2);
    let mut app = spec("api", "good", 3);
    app.rollout.order = Some(Order::StartFirst);
    world.run(apply(vec![app])).unwrap();
    let old: Vec<RunId> = (0..3).map(|slot| run_in(&world, slot)).collect();
    for run in &old {
        recycle(&mut world, *run);
        recycle(&mut world, *run);
    }
    while (0..3).any(|slot| world.app("api").current(slot).is_some_and(|run| old.contains(&run.id))) {
        assert!(world.step());
        assert!(world.alive() <= 4);
        assert!(world.serving("api").len() >= 3);
        assert!(world.app("api").rotation().len() >= 3);
    }
    assert_eq!(world.count(EventKind::Recycled), 3);
    assert_eq!(world.spawns.len(), 6);
    assert!(world.app("api").slots.iter().all(|slot| slot.restarts == 0), "no blame");
}

#[test]
fn a_replacement_that_fails_is_tried_again_after_the_cooldown() {
    let mut world = up("good", 1);
    world.pass(1000);
    let run = run_in(&world, 0);
    world.starving = true;
    recycle(&mut world, run);
    world.pass(59_000);
    assert_eq!(world.count(EventKind::Recycled), 1);
    assert_eq!(run_in(&world, 0), run, "it serves on");
    world.starving = false;
    world.pass(10_000);
    assert_ne!(run_in(&world, 0), run);
}

#[test]
fn old_instances_are_replaced_before_their_time_is_over_and_not_together() {
    let mut world = World::new(2);
    let age = MaxAge {
        after: Millis(600_000),
        jitter: 0.2,
    };
    let app = AppSpec {
        max_age: Some(age),
        ..spec("api", "good", 4)
    };
    world.run(apply(vec![app])).unwrap();
    world.pass(475_000);
    assert_eq!(world.spawns.len(), 4);
    world.pass(150_000);
    assert_eq!(world.count(EventKind::Recycled), 4);
    assert_eq!(world.spawns.len(), 8);
    let mut times: Vec<u64> = world.spawns[4..].iter().map(|(at, ..)| at.0).collect();
    times.dedup_by_key(|at| *at / 100_000_000);
    assert_eq!(times.len(), 4, "one at a time");
    world.pass(3_000_000);
    assert!(world.spawns.len() >= 20, "{}", world.spawns.len());
}

#[test]
fn an_old_instance_is_replaced_by_the_next_daemon_too() {
    let mut world = World::new(2);
    let age = MaxAge {
        after: Millis(60_000),
        jitter: 0.0,
    };
    let app = AppSpec {
        max_age: Some(age),
        ..spec("api", "good", 1)
    };
    world.run(apply(vec![app])).unwrap();
    world.pass(50_000);
    world.daemon_dies();
    world.pass(9000);
    assert_eq!(world.spawns.len(), 1);
    world.pass(5000);
    assert_eq!(world.spawns.len(), 2);
}

#[test]
fn what_a_user_asks_for_comes_first() {
    let mut world = up("good", 3);
    world.pass(1000);
    let (first, second) = (run_in(&world, 0), run_in(&world, 2));
    recycle(&mut world, first);
    recycle(&mut world, second);
    let reload = Command::Reload {
        targets: all(),
        env: None,
        no_rollback: false,
    };
    world.run(reload).unwrap();
    world.pass(60_000);
    assert_eq!(world.count(EventKind::ReloadDone), 1);
    assert!(
        world.spawns.len() <= 7,
        "the reload has replaced them: {}",
        world.spawns.len()
    );
}

#[test]
fn more_time_is_given_to_start_and_to_stop() {
    let mut world = World::new(2);
    let app = AppSpec {
        listen_timeout: Millis(5000),
        ..spec("api", "never-ready", 1)
    };
    let ticket = world.ask(apply(vec![app]));
    world.pass(4000);
    let run = run_in(&world, 0);
    world.feed(Input::Extend(run, Millis(10_000)));
    world.feed(Input::Extend(run, Millis(10)));
    world.pass(9000);
    assert_eq!(world.app("api").slot_state(0), State::Starting);
    let error = world.until_answered(ticket).unwrap_err();
    assert!(
        error.message.contains("not ready after 5s and the time it asked for"),
        "{}",
        error.message
    );

    let mut world = up("deaf", 1);
    let ticket = world.ask(Command::Stop { targets: all() });
    world.pass(9000);
    let run = run_in(&world, 0);
    world.feed(Input::Extend(run, Millis(20_000)));
    world.pass(19_000);
    assert_eq!(world.count(EventKind::Killed), 0);
    world.until_answered(ticket).unwrap();
    assert_eq!(world.count(EventKind::Killed), 1);
}

#[test]
fn one_that_reloads_itself_stays_in_service_and_is_replaced_if_it_does_not_come_back() {
    let mut world = up("good", 2);
    world.pass(2000);
    let run = run_in(&world, 1);
    world.feed(Input::Reloading(run));
    assert_eq!(world.app("api").slot_state(1), State::Reloading);
    assert!(world.app("api").rotation().contains(&run));
    world.pass(20_000);
    world.feed(Input::Ready(run));
    assert_eq!(world.app("api").slot_state(1), State::Online);
    world.pass(60_000);
    assert_eq!(run_in(&world, 1), run);
    world.feed(Input::Reloading(run));
    world.pass(29_000);
    assert_eq!(world.app("api").slot_state(1), State::Reloading);
    world.pass(5000);
    let (_, event) = world
        .log
        .iter()
        .find(|(_, event)| event.kind == EventKind::Unhealthy)
        .unwrap();
    assert!(event.message.contains("not ready again 30s after"), "{}", event.message);
    assert_ne!(run_in(&world, 1), run);
}

#[test]
fn what_the_manager_holds_for_all_needs_no_look() {
    let listening = |program: &str, count: u32| AppSpec {
        listen: vec![ListenSpec::new("127.0.0.1:0".parse().unwrap())],
        ..spec("api", program, count)
    };
    for (old, new, looks) in [
        (listening("good", 2), listening("better", 2), 0),
        (spec("api", "good", 2), listening("better", 2), 1),
        (listening("good", 2), spec("api", "better", 2), 1),
    ] {
        let mut world = World::new(2);
        world.run(apply(vec![old])).unwrap();
        world.run(apply(vec![new])).unwrap();
        let looked = world.trace.iter().filter(|line| line.contains("-> Inspect")).count();
        assert_eq!(looked, looks);
        assert_eq!(world.serving("api"), ["better"; 2]);
    }
}
