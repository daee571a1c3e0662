//! Instances that were ready and do not work: out of rotation, replaced, but not for ever.

use super::scenarios::{apply, up};
use super::specs::spec;
use super::world::World;
use crate::model::duration::Millis;
use crate::model::event::EventKind;
use crate::model::health::{Health, Probe};
use crate::model::names::RunId;
use crate::model::spec::{AppSpec, Order};
use crate::model::state::State;
use crate::supervise::Input;

pub(super) fn probed(program: &str, count: u32) -> AppSpec {
    let mut app = AppSpec {
        health: Some(Health {
            probe: Probe::Tcp("127.0.0.1:1".to_owned()),
            interval: Millis(1000),
            timeout: Millis(500),
            retries: 2,
            start_period: Millis(1000),
        }),
        ..spec("api", program, count)
    };
    app.rollout.order = Some(Order::StartFirst);
    app.restart.backoff.jitter = 0.0;
    app
}

pub(super) fn run_in(world: &World, slot: u32) -> RunId {
    world.app("api").current(slot).unwrap().id
}

fn unhealthy(world: &mut World, run: RunId) {
    world.feed(Input::Unhealthy(run, "it answered 500".to_owned()));
}

#[test]
fn what_does_not_work_is_out_of_rotation_and_replaced_first_started_then_stopped() {
    let mut world = up("good", 3);
    world.pass(1000);
    let bad = run_in(&world, 1);
    unhealthy(&mut world, bad);
    let app = world.app("api");
    assert_eq!(app.slot_state(1), State::Unhealthy);
    assert_eq!(app.state(), State::Unhealthy);
    assert!(!app.rotation().contains(&bad));
    assert_eq!(app.rotation().len(), 2);
    assert_eq!(world.count(EventKind::Unhealthy), 1);
    let mut most = 0;
    while world.app("api").rollout.is_some() {
        assert!(world.step());
        most = most.max(world.alive());
        assert!(world.serving("api").len() >= 3);
    }
    assert_eq!(most, 4);
    assert_ne!(run_in(&world, 1), bad);
    assert_eq!(world.app("api").rotation().len(), 3);
    assert_eq!(world.app("api").slots[1].restarts, 1);
}

#[test]
fn when_none_works_they_all_stay_in_rotation() {
    let mut world = up("good", 2);
    for slot in 0..2 {
        let run = run_in(&world, slot);
        unhealthy(&mut world, run);
    }
    assert_eq!(world.app("api").rotation().len(), 2);
    assert_eq!(
        world.app("api").rollout.as_ref().unwrap().only,
        Some(0),
        "one at a time"
    );
}

#[test]
fn one_that_works_again_before_it_is_replaced_keeps_its_place() {
    let mut world = up("good", 2);
    let (first, second) = (run_in(&world, 0), run_in(&world, 1));
    unhealthy(&mut world, first);
    unhealthy(&mut world, second);
    world.feed(Input::Healthy(second));
    world.pass(60_000);
    assert_ne!(run_in(&world, 0), first);
    assert_eq!(run_in(&world, 1), second);
    assert_eq!(world.count(EventKind::Healthy), 1);
}

#[test]
fn what_never_works_is_replaced_less_and_less_and_never_taken_away() {
    let mut world = World::new(3);
    world.run(apply(vec![probed("good", 1)])).unwrap();
    let began = world.now;
    while world.now < began.after(Millis::from_secs(1200)) {
        if let Some(run) = world.app("api").current(0)
            && run.is_online()
            && run.unhealthy.is_none()
        {
            let id = run.id;
            world.pass(500);
            unhealthy(&mut world, id);
        }
        assert!(!world.serving("api").is_empty());
        assert!(world.alive() <= 2);
        world.pass(1000);
    }
    let tries = world.spawns.len();
    assert!((8..14).contains(&tries), "{tries}");
    assert_eq!(world.count(EventKind::CircuitOpen), 1, "told once");
    assert_eq!(world.app("api").state(), State::Unhealthy);
    world.pass(700_000);
    let run = run_in(&world, 0);
    world.feed(Input::Healthy(run));
    assert_eq!(world.app("api").slots[0].futile, 0);
    assert_eq!(world.count(EventKind::CircuitClosed), 1);
}

#[test]
fn a_generation_that_is_unhealthy_is_rolled_back_also_when_it_is_in_service() {
    for at in 0..2 {
        let mut world = up("good", 2);
        let ticket = world.ask(apply(vec![probed("better", 2)]));
        while world.app("api").rollout.as_ref().unwrap().done.len() < at {
            assert!(world.step());
            for run in world.monitored.clone() {
                world.feed(Input::Healthy(run));
            }
        }
        while world.monitored.is_empty() {
            assert!(world.step());
        }
        let run = *world.monitored.first().unwrap();
        unhealthy(&mut world, run);
        let error = world.until_answered(ticket).unwrap_err();
        assert!(
            error.message.contains("unhealthy: it answered 500"),
            "{}",
            error.message
        );
        world.pass(5000);
        assert_eq!(world.serving("api"), ["good"; 2]);
        assert!(world.monitored.is_empty());
    }
}

#[test]
fn a_new_instance_that_has_a_probe_is_in_service_when_that_succeeds_or_cannot_fail_any_more() {
    let mut world = up("good", 1);
    let began = world.now;
    let ticket = world.ask(apply(vec![probed("better", 1)]));
    world.pass(4000);
    assert_eq!(world.app("api").spec().argv[0], "good".into(), "not yet");
    world.until_answered(ticket).unwrap();
    assert!(world.now.since(began).0 >= 5500, "{}", world.now.since(began));
    let mut world = up("good", 1);
    let began = world.now;
    let ticket = world.ask(apply(vec![probed("better", 1)]));
    world.pass(3000);
    let run = *world.monitored.first().unwrap();
    world.feed(Input::Healthy(run));
    world.until_answered(ticket).unwrap();
    assert!(world.now.since(began).0 < 3500);
}
