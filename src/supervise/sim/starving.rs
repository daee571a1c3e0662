//! A machine without processes, descriptors or memory to spare: not the app's fault, retried, never in a hurry.

use super::scenarios::{apply, up};
use super::specs::spec;
use super::world::World;
use crate::model::duration::Millis;
use crate::model::event::EventKind;
use crate::model::spec::{AppSpec, Backoff, Ready};
use crate::model::state::State;
use crate::supervise::policy::breaker::Circuit;

fn app(program: &str) -> AppSpec {
    let mut app = AppSpec {
        ready: Ready::Spawn,
        ..spec("api", program, 3)
    };
    app.restart.backoff = Backoff {
        jitter: 0.0,
        ..Backoff::default()
    };
    app
}

#[test]
fn what_cannot_be_started_for_lack_of_processes_waits_longer_each_time_and_opens_no_circuit() {
    let mut world = World::new(5);
    world.starving = true;
    let error = world.run(apply(vec![app("good")])).unwrap_err();
    assert!(error.message.contains("no process left"), "{}", error.message);
    world.pass(600_000);
    assert_eq!(world.count(EventKind::CircuitOpen), 0);
    assert_eq!(world.app("api").state(), State::Backoff);
    assert_eq!(world.app("api").slots[0].restarts, 0, "nothing was started");
    assert!(
        world.app("api").slots[0]
            .reason
            .as_ref()
            .unwrap()
            .contains("no process left")
    );
    let tries: Vec<_> = world
        .spawns
        .iter()
        .filter(|(.., slot)| *slot == 0)
        .map(|(at, ..)| *at)
        .collect();
    let waits: Vec<u64> = tries.windows(2).map(|pair| pair[1].since(pair[0]).0 / 1000).collect();
    assert_eq!(waits[..7], [1, 2, 4, 8, 16, 30, 30]);
    assert_eq!(
        world.count(EventKind::SpawnFailed),
        world.spawns.len(),
        "each try is told"
    );
    world.starving = false;
    world.pass(31_000);
    assert_eq!(world.app("api").state(), State::Online);
}

#[test]
fn what_crashes_meanwhile_comes_back_and_is_as_good_as_before() {
    let mut world = up("good", 1);
    world.starving = true;
    let run = *world.app("api").runs.keys().next().unwrap();
    world.later(0, super::perform::exited(run, crate::model::exit::ExitStatus::Code(1)));
    world.pass(100_000);
    assert_eq!(world.app("api").state(), State::Backoff);
    world.starving = false;
    world.pass(60_000);
    assert_eq!(world.app("api").state(), State::Online);
    assert_eq!(world.app("api").slots[0].unstable, 0, "forgotten once it is stable");
    assert_eq!(world.count(EventKind::CircuitOpen), 0);
}

#[test]
fn a_probe_that_cannot_be_made_is_no_failed_probe() {
    let mut world = World::new(5);
    world.ask(apply(vec![app("crash")]));
    while world.count(EventKind::CircuitOpen) == 0 {
        world.step();
    }
    world.starving = true;
    let tries = world.spawns.len();
    world.pass(200_000);
    assert!((2..5).contains(&(world.spawns.len() - tries)), "one each cooldown");
    let Circuit::Open { cooldown, .. } = world.app("api").circuit else {
        panic!("{:?}", world.app("api").circuit)
    };
    assert_eq!(cooldown, Millis(60_000), "it did not double");
    assert_eq!(world.count(EventKind::CircuitOpen), 1);
}
