//! Apps that their first connection starts.

use super::scenarios::{all, apply};
use super::specs::spec;
use super::world::World;
use crate::model::balance::OnDemand;
use crate::model::exit::ExitStatus;
use crate::model::outcome::Outcome;
use crate::model::spec::{AppSpec, RestartMode};
use crate::model::state::State;
use crate::model::target::ScaleTo;
use crate::supervise::{Command, Input};

pub(super) fn lazy(program: &str, count: u32) -> AppSpec {
    AppSpec {
        on_demand: Some(OnDemand { idle_timeout: None }),
        ..spec("api", program, count)
    }
}

fn dormant(program: &str) -> World {
    let mut world = World::new(4);
    world.run(apply(vec![lazy(program, 2)])).unwrap();
    world
}

fn demand(world: &mut World) {
    let id = world.app("api").id;
    world.feed(Input::Demand(id));
}

fn idle(world: &mut World) {
    let id = world.app("api").id;
    world.feed(Input::Idle(id));
}

#[test]
fn nothing_runs_before_the_first_connection_nor_after_the_last() {
    let mut world = World::new(4);
    let lines = world.run(apply(vec![lazy("good", 2)])).unwrap();
    assert_eq!(lines[0].outcome, Outcome::Started);
    assert_eq!(lines[0].message.as_deref(), Some("waits for the first connection"));
    assert_eq!(world.app("api").state(), State::Waiting);
    world.pass(60_000);
    assert_eq!((world.spawns.len(), world.core.poll_timeout()), (0, None));
    demand(&mut world);
    demand(&mut world);
    world.pass(1000);
    assert_eq!(world.app("api").state(), State::Online);
    assert!(!world.app("api").is_dormant());
    idle(&mut world);
    assert!(world.app("api").is_dormant());
    demand(&mut world);
    world.pass(1000);
    assert_eq!(
        (world.alive(), world.spawns.len()),
        (2, 4),
        "asked for while it stopped"
    );
    idle(&mut world);
    world.pass(1000);
    assert_eq!((world.alive(), world.app("api").state()), (0, State::Waiting));
    assert!(world.disk[&world.app("api").id].wanted);
}

#[test]
fn commands_on_what_waits_start_nothing() {
    let mut world = dormant("good");
    let targets = all();
    for command in [
        Command::Start {
            targets: all(),
            env: None,
        },
        Command::Restart {
            targets: all(),
            env: None,
        },
        Command::Reload {
            targets: all(),
            env: None,
            no_rollback: false,
        },
        Command::Scale {
            targets,
            to: ScaleTo::Exactly(3),
        },
        apply(vec![lazy("better", 2)]),
    ] {
        world.run(command).unwrap();
        assert!(world.app("api").is_dormant());
    }
    assert_eq!(world.spawns.len(), 0);
    demand(&mut world);
    world.pass(1000);
    assert_eq!(world.serving("api"), ["better"; 3], "scaled while it waited");
    world.run(Command::Stop { targets: all() }).unwrap();
    assert_eq!(world.app("api").state(), State::Stopped);
    demand(&mut world);
    assert_eq!(world.spawns.len(), 3, "a stopped app stays stopped");
    world
        .run(Command::Start {
            targets: all(),
            env: None,
        })
        .unwrap();
    assert!(world.app("api").is_dormant());
}

#[test]
fn what_was_started_follows_the_restart_law() {
    let mut world = dormant("crash");
    demand(&mut world);
    world.pass(30_000);
    assert_eq!(world.app("api").state(), State::Errored);
    let tried = world.spawns.len();
    demand(&mut world);
    assert_eq!(world.spawns.len(), tried);
}

#[test]
fn one_that_ends_by_itself_waits_for_the_next_connection() {
    let mut world = World::new(4);
    let mut app = lazy("good", 1);
    app.restart.mode = RestartMode::OnFailure;
    world.run(apply(vec![app])).unwrap();
    for _ in 0..3 {
        demand(&mut world);
        world.pass(5000);
        let run = *world.procs.keys().next().unwrap();
        world.later(0, super::perform::exited(run, ExitStatus::Code(0)));
        world.pass(1000);
        assert!(world.app("api").is_dormant());
        assert_eq!(world.app("api").state(), State::Waiting);
    }
    assert_eq!(world.spawns.len(), 3);
}

#[test]
fn a_daemon_that_dies_leaves_what_runs_running_and_what_waits_waiting() {
    let mut world = dormant("good");
    world.daemon_dies();
    assert!(world.app("api").is_dormant());
    demand(&mut world);
    world.pass(1000);
    world.daemon_dies();
    world.pass(1000);
    assert_eq!(world.alive(), 2);
    assert!(!world.app("api").is_dormant());
}

#[test]
fn changing_when_it_starts_works_both_ways() {
    let mut world = World::new(4);
    world.run(apply(vec![spec("api", "good", 2)])).unwrap();
    world.run(apply(vec![lazy("better", 2)])).unwrap();
    world.pass(1000);
    assert_eq!(
        world.serving("api"),
        ["better"; 2],
        "it goes on, and waits only when it is idle"
    );
    idle(&mut world);
    world.pass(1000);
    assert_eq!(world.alive(), 0);
    world.run(apply(vec![spec("api", "good", 2)])).unwrap();
    assert_eq!(world.serving("api"), ["good"; 2], "not on demand any more");
}
