//! The daemon dies after it gave an order and before it wrote that.

use super::perform::exited;
use super::scenarios::{all, apply, up};
use super::specs::spec;
use super::world::World;
use crate::model::event::EventKind;
use crate::model::exit::ExitStatus;
use crate::model::names::RunId;
use crate::model::spec::RestartMode;
use crate::model::state::State;
use crate::supervise::Command;
use crate::supervise::policy::breaker::Circuit;

const COUNT: u32 = 6;

fn states(world: &World) -> Vec<State> {
    (0..COUNT).map(|slot| world.app("api").slot_state(slot)).collect()
}

fn unstable(world: &World) -> u32 {
    world.app("api").slots.iter().map(|slot| slot.unstable).sum()
}

/// All are told to stop, and the daemon dies before that was written.
fn forget_a_restart(world: &mut World) {
    let records = world.records();
    world.ask(Command::Restart {
        targets: all(),
        env: None,
    });
    assert!(world.procs.values().all(|proc| proc.told));
    world.daemon_dies_with(&records);
}

/// All end in the same way, and no daemon is there.
fn end_unseen(world: &mut World, status: ExitStatus) -> Vec<RunId> {
    let records = world.records();
    let runs: Vec<RunId> = world.procs.keys().copied().collect();
    for run in &runs {
        world.later(0, exited(*run, status));
    }
    world.daemon_dies_with(&records);
    runs
}

#[test]
fn young_instances_that_were_told_to_stop_have_not_crashed() {
    let mut world = up("good", COUNT);
    forget_a_restart(&mut world);
    world.pass(1_000);
    assert_eq!(states(&world), [State::Online; COUNT as usize]);
    assert_eq!(world.spawns.len(), 2 * COUNT as usize);
    assert_eq!(world.count(EventKind::CircuitOpen), 0);
    assert_eq!(world.count(EventKind::Backoff), 0);
    assert_eq!(unstable(&world), 0);
    // As often as that happens.
    for _ in 0..5 {
        forget_a_restart(&mut world);
        world.pass(1_000);
    }
    assert_eq!(states(&world), [State::Online; COUNT as usize]);
    assert_eq!(world.count(EventKind::CircuitOpen), 0);
}

#[test]
fn ends_that_nobody_can_tell_or_that_are_as_after_an_order_count_for_nothing() {
    for status in [ExitStatus::Unknown, ExitStatus::Code(0), ExitStatus::Code(143)] {
        let mut world = up("good", COUNT);
        let before = end_unseen(&mut world, status);
        world.pass(1_000);
        assert_eq!(states(&world), [State::Online; COUNT as usize], "{status:?}");
        assert_eq!(unstable(&world), 0, "{status:?}");
        assert!(world.procs.keys().all(|run| !before.contains(run)), "{status:?}");
    }
}

#[test]
fn crashes_while_no_daemon_is_there_are_crashes() {
    for status in [ExitStatus::Code(1), ExitStatus::Signal(11), ExitStatus::Signal(9)] {
        let mut world = up("good", COUNT);
        end_unseen(&mut world, status);
        world.pass(1_000);
        assert!(world.app("api").circuit.is_open(), "{status:?}");
        assert_eq!(world.count(EventKind::CircuitOpen), 1, "{status:?}");
    }
}

#[test]
fn the_same_ends_a_while_later_are_crashes() {
    let mut world = up("good", 1);
    world.daemon_dies();
    world.pass(100_000);
    world.ask(Command::Restart {
        targets: all(),
        env: None,
    });
    world.pass(100);
    let run = *world.procs.keys().next().unwrap();
    world.later(0, exited(run, ExitStatus::Signal(15)));
    world.pass(10);
    assert_eq!(unstable(&world), 1);
}

#[test]
fn an_app_that_has_done_its_work_is_not_started_again() {
    let mut app = spec("api", "good", 1);
    app.restart.mode = RestartMode::OnFailure;
    let mut world = World::new(7);
    world.run(apply(vec![app])).unwrap();
    end_unseen(&mut world, ExitStatus::Code(0));
    world.pass(10_000);
    assert_eq!(states(&world)[0], State::Completed);
}

#[test]
fn a_probe_that_was_told_to_stop_is_made_again() {
    let mut world = up("good", COUNT);
    end_unseen(&mut world, ExitStatus::Code(1));
    while !matches!(world.app("api").circuit, Circuit::Probing { .. }) || world.app("api").runs.is_empty() {
        assert!(world.step());
    }
    world.pass(100);
    assert_eq!(world.alive(), 1);
    end_unseen(&mut world, ExitStatus::Signal(15));
    world.pass(100);
    assert!(matches!(world.app("api").circuit, Circuit::Probing { .. }));
    assert_eq!(world.alive(), 1);
    world.pass(20_000);
    assert_eq!(states(&world), [State::Online; COUNT as usize]);
    assert_eq!(world.count(EventKind::CircuitClosed), 1);
}
