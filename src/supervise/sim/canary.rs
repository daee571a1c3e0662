//! A few instances first: watched in service before the others follow.

use super::scenarios::{apply, up};
use super::specs::spec;
use super::unhealthy::run_in;
use super::world::World;
use crate::model::duration::Millis;
use crate::model::exit::ExitStatus;
use crate::model::spec::{AppSpec, Order, RolloutSpec};
use crate::supervise::Input;

fn next(program: &str, count: u32, canary: u32, parallel: u32) -> AppSpec {
    AppSpec {
        rollout: RolloutSpec {
            order: Some(Order::StartFirst),
            canary,
            parallel,
            ..RolloutSpec::default()
        },
        ..spec("api", program, count)
    }
}

fn until_watched(world: &mut World) {
    while world.app("api").rollout.as_ref().unwrap().watch_until.is_none() {
        assert!(world.step());
    }
}

#[test]
fn the_others_wait_until_the_first_were_in_service_for_min_healthy() {
    let mut world = up("good", 5);
    let ticket = world.ask(apply(vec![next("better", 5, 2, 3)]));
    until_watched(&mut world);
    let began = world.now;
    assert_eq!(
        world.spawns.len(),
        7,
        "two canaries, no more, though three may be done at a time"
    );
    let progress = world.app("api").progress(world.now).unwrap();
    assert_eq!((progress.done, progress.total), (2, 5));
    let words: Vec<String> = progress.waiting.iter().map(ToString::to_string).collect();
    assert!(words.contains(&"canary watched for 2s".to_owned()), "{words:?}");
    while world.spawns.len() == 7 {
        assert!(world.step());
    }
    assert_eq!(world.now.since(began), Millis(2000));
    assert_eq!(world.spawns.len(), 10, "then three at a time");
    world.until_answered(ticket).unwrap();
    assert_eq!(world.serving("api"), ["better"; 5]);
    assert!(world.app("api").progress(world.now).is_none());
}

#[test]
fn as_many_canaries_as_instances_need_no_pause() {
    for canary in [0, 3, 9] {
        let mut world = up("good", 3);
        let began = world.now;
        world.run(apply(vec![next("better", 3, canary, 3)])).unwrap();
        assert!(world.now.since(began).0 < 2500, "{canary}: {}", world.now.since(began));
    }
}

#[test]
fn a_canary_that_dies_or_falls_ill_while_it_is_watched_fails_the_rollout() {
    for ill in [true, false] {
        let mut world = up("good", 3);
        let ticket = world.ask(apply(vec![next("better", 3, 1, 1)]));
        until_watched(&mut world);
        let run = run_in(&world, 0);
        if ill {
            world.feed(Input::Unhealthy(run, "it accepts nothing".to_owned()));
        } else {
            world.later(0, super::perform::exited(run, ExitStatus::Code(7)));
        }
        let error = world.until_answered(ticket).unwrap_err();
        let why = if ill { "it accepts nothing" } else { "exit code 7" };
        assert!(error.message.contains(why), "{}", error.message);
        world.pass(3000);
        assert_eq!(world.serving("api"), ["good"; 3]);
        assert_eq!(world.spawns.len(), 5, "one canary, and one to go back");
    }
}

#[test]
fn the_deadline_holds_while_canaries_are_watched() {
    let mut world = up("good", 3);
    let mut app = next("better", 3, 1, 1);
    app.rollout.deadline = Millis(3000);
    let error = world.run(apply(vec![app])).unwrap_err();
    assert!(error.message.contains("not done within 3s"), "{}", error.message);
    assert_eq!(world.serving("api"), ["good"; 3]);
}
