//! Chosen rollouts: good and broken generations, every order, memory, and what comes between.

use super::scenarios::{all, apply, one, up};
use super::specs::spec;
use super::world::World;
use crate::model::duration::Millis;
use crate::model::event::EventKind;
use crate::model::outcome::ErrorKind;
use crate::model::size::Bytes;
use crate::model::spec::{AppSpec, Order, RolloutSpec};
use crate::model::target::ScaleTo;
use crate::supervise::Command;

fn next(program: &str, count: u32, order: Order, parallel: u32) -> AppSpec {
    AppSpec {
        rollout: RolloutSpec {
            order: Some(order),
            parallel,
            ..RolloutSpec::default()
        },
        ..spec("api", program, count)
    }
}

/// Runs until the answer; returns it and the fewest and most instances that served meanwhile.
fn watch(world: &mut World, ticket: u64) -> (super::world::Reply, usize, usize) {
    let (mut least, mut most) = (usize::MAX, 0);
    while !world.replies.contains_key(&ticket) {
        assert!(world.step());
        let serving = world.serving("api").len();
        least = least.min(serving);
        most = most.max(world.alive());
    }
    (world.replies[&ticket].clone(), least, most)
}

#[test]
fn a_good_generation_replaces_the_old_one() {
    for (order, parallel, fewest, at_most) in [
        (Order::StartFirst, 1, 4, 5),
        (Order::StartFirst, 2, 4, 6),
        (Order::StopFirst, 1, 3, 4),
        (Order::StopFirst, 2, 2, 4),
    ] {
        let mut world = up("good", 4);
        let ticket = world.ask(apply(vec![next("better", 4, order, parallel)]));
        let (reply, least, most) = watch(&mut world, ticket);
        assert_eq!(reply.unwrap().len(), 4);
        assert!(
            least >= fewest && most <= at_most,
            "{order:?} {parallel}: {least} to {most}"
        );
        assert_eq!(world.serving("api"), ["better"; 4]);
        assert_eq!(world.app("api").spec().argv[0], "better".into());
        assert_eq!(world.count(EventKind::ReloadDone), 1);
    }
}

#[test]
fn a_broken_generation_leaves_the_old_one_serving() {
    for program in ["crash", "never-ready", "no-spawn", "ready-then-crash"] {
        for (order, parallel) in [
            (Order::StartFirst, 1),
            (Order::StartFirst, 2),
            (Order::StopFirst, 1),
            (Order::StopFirst, 2),
        ] {
            let mut world = up("good", 4);
            let ticket = world.ask(apply(vec![next(program, 4, order, parallel)]));
            let (reply, least, _) = watch(&mut world, ticket);
            let error = reply.unwrap_err();
            assert_eq!(error.kind, ErrorKind::Failed);
            let floor = if order == Order::StartFirst {
                4
            } else {
                4 - parallel as usize
            };
            assert!(least >= floor, "{program} {order:?} {parallel}: {least}");
            world.pass(5000);
            assert_eq!(world.serving("api"), ["good"; 4], "{program} {order:?}");
            assert_eq!(world.app("api").spec().argv[0], "good".into());
            assert_eq!(world.disk.values().next().unwrap().spec.argv[0], "good".into());
            assert_eq!(world.count(EventKind::ReloadRolledBack), 1);
        }
    }
}

#[test]
fn each_way_to_fail_is_named() {
    for (program, why) in [
        ("crash", "exit code 1 before it was ready"),
        (
            "background",
            "exit code 0 before it was ready, while processes that it had started went on",
        ),
        ("never-ready", "not ready after 30s"),
        ("no-spawn", "exec: no such file"),
        (
            "ready-then-crash",
            "exit code 1 after it was ready, before it had been healthy",
        ),
        ("starved", "no process left"),
    ] {
        let mut world = up("good", 2);
        let error = world
            .run(apply(vec![next(program, 2, Order::StartFirst, 1)]))
            .unwrap_err();
        assert!(error.message.contains(why), "{program}: {}", error.message);
        assert!(
            error.message.contains("the old generation keeps serving"),
            "{}",
            error.message
        );
        assert_eq!(world.serving("api"), ["good"; 2]);
        assert_eq!(
            world.spawns.len(),
            3,
            "{program}: nothing of the old generation was touched"
        );
    }
}

#[test]
fn a_new_instance_that_is_deaf_is_killed_on_the_way_back_before_the_answer() {
    let mut world = up("good", 2);
    let mut app = next("deaf", 2, Order::StartFirst, 1);
    app.ready = crate::model::spec::Ready::Spawn;
    app.rollout.min_healthy = Millis(20_000);
    let ticket = world.ask(apply(vec![app]));
    world.pass(1000);
    let run = *world.procs.keys().last().unwrap();
    world.feed(crate::supervise::Input::Unhealthy(run, "it answered 500".to_owned()));
    let (reply, least, _) = watch(&mut world, ticket);
    assert!(reply.unwrap_err().message.contains("it answered 500"));
    assert_eq!(least, 2, "the old ones serve on");
    assert_eq!(world.count(EventKind::Killed), 1);
    assert_eq!(world.alive(), 2, "it is gone when the command answers");
}

#[test]
fn a_file_that_changes_the_program_and_the_count_at_once_leaves_nobody_out() {
    for (from, to) in [(2, 5), (5, 2)] {
        let mut world = up("good", from);
        let ticket = world.ask(apply(vec![next("better", to, Order::StartFirst, 1)]));
        let (reply, least, _) = watch(&mut world, ticket);
        reply.unwrap();
        assert!(least >= from.min(to) as usize, "{from} to {to}: {least}");
        assert_eq!(world.serving("api"), vec!["better"; to as usize]);
        assert_eq!(world.app("api").desired, to);
    }
}

#[test]
fn the_deadline_turns_it_round() {
    let mut world = up("good", 4);
    let mut app = next("better", 4, Order::StartFirst, 1);
    app.rollout.deadline = Millis(5000);
    let error = world.run(apply(vec![app])).unwrap_err();
    assert!(error.message.contains("not done within 5s"), "{}", error.message);
    world.pass(5000);
    assert_eq!(world.serving("api"), ["good"; 4]);
}

#[test]
fn an_inspection_that_never_answers_does_not_hang_it() {
    let mut world = up("good", 2);
    world.inspects = false;
    let mut app = spec("api", "better", 2);
    app.rollout.deadline = Millis(5000);
    world.run(apply(vec![app])).unwrap_err();
    assert_eq!(world.serving("api"), ["good"; 2]);
}

#[test]
fn a_kept_generation_stays_though_it_fails() {
    let mut world = up("good", 3);
    let apps = vec![next("ready-then-crash", 3, Order::StartFirst, 1)];
    let error = world
        .run(Command::Apply {
            apps,
            update_env: true,
            no_rollback: true,
        })
        .unwrap_err();
    assert!(error.message.contains("was kept"), "{}", error.message);
    assert_eq!(world.app("api").spec().argv[0], "ready-then-crash".into());
    world.pass(10_000);
    assert!(world.serving("api").iter().all(|program| program == "ready-then-crash"));
}

#[test]
fn a_spec_that_cannot_be_written_is_rolled_back() {
    for keep in [false, true] {
        let mut world = up("good", 3);
        world.bad_disk = 1;
        let apps = vec![next("better", 3, Order::StartFirst, 3)];
        let error = world
            .run(Command::Apply {
                apps,
                update_env: true,
                no_rollback: keep,
            })
            .unwrap_err();
        assert!(error.message.contains("could not be written"), "{}", error.message);
        assert_eq!(world.serving("api"), ["good"; 3]);
        assert_eq!(world.app("api").spec().argv[0], "good".into());
    }
}

#[test]
fn scaling_and_restarting_during_a_reload_is_a_conflict() {
    let mut world = up("good", 3);
    let ticket = world.ask(apply(vec![next("better", 3, Order::StartFirst, 1)]));
    world.pass(1000);
    for command in [
        Command::Scale {
            targets: all(),
            to: ScaleTo::By(1),
        },
        Command::Restart {
            targets: all(),
            env: None,
        },
        Command::Stop { targets: one(1) },
        apply(vec![spec("api", "crash", 3)]),
    ] {
        assert_eq!(world.run(command).unwrap_err().kind, ErrorKind::Conflict);
    }
    let joined = world.ask(apply(vec![next("better", 3, Order::StartFirst, 1)]));
    world
        .run(Command::Start {
            targets: all(),
            env: None,
        })
        .unwrap();
    world.until_answered(ticket).unwrap();
    world.until_answered(joined).unwrap();
    assert_eq!(world.serving("api"), ["better"; 3]);
}

#[test]
fn a_stop_ends_a_reload_and_both_are_answered() {
    let mut world = up("good", 3);
    let ticket = world.ask(apply(vec![next("better", 3, Order::StartFirst, 1)]));
    world.pass(3000);
    world.run(Command::Stop { targets: all() }).unwrap();
    world.until_answered(ticket).unwrap_err();
    assert_eq!(world.alive(), 0);
    world
        .run(Command::Start {
            targets: all(),
            env: None,
        })
        .unwrap();
    assert_eq!(world.serving("api"), ["good"; 3], "the old spec is in force");
}

fn fat(order: Order) -> AppSpec {
    AppSpec {
        max_memory_restart: Some(Bytes(1 << 20)),
        ..next("fat", 2, order, 1)
    }
}

#[test]
fn too_much_memory_is_replaced_one_at_a_time() {
    for order in [Order::StartFirst, Order::StopFirst] {
        let mut world = World::new(9);
        world.run(apply(vec![fat(order)])).unwrap();
        world.pass(60_000);
        assert!(world.count(EventKind::MemoryLimit) >= 2);
        assert!(world.spawns.len() >= 4);
        assert!((1..=3).contains(&world.serving("api").len()));
    }
}

#[test]
fn a_memory_replacement_gives_way() {
    for order in [Order::StartFirst, Order::StopFirst] {
        for command in [
            Command::Scale {
                targets: all(),
                to: ScaleTo::By(1),
            },
            Command::Stop { targets: one(0) },
            Command::Restart {
                targets: all(),
                env: None,
            },
            apply(vec![next("better", 2, order, 1)]),
        ] {
            let mut world = World::new(9);
            world.run(apply(vec![fat(order)])).unwrap();
            while world.app("api").rollout.is_none() {
                assert!(world.step());
            }
            world.run(command.clone()).unwrap();
            world.pass(3000);
            let wanted = world.app("api").wanted_slots().count();
            let serving = world.serving("api").len();
            let busy = usize::from(world.app("api").rollout.is_some());
            assert!(serving.abs_diff(wanted) <= busy, "{order:?} {command:?}");
        }
    }
}

#[test]
fn a_failed_memory_replacement_is_not_tried_with_every_sample() {
    let mut world = World::new(9);
    world.run(apply(vec![fat(Order::StartFirst)])).unwrap();
    let id = world.app("api").id;
    let broken = std::sync::Arc::new(AppSpec {
        max_memory_restart: Some(Bytes(1)),
        ..next("no-spawn", 2, Order::StartFirst, 1)
    });
    let generation = world.app("api").generation;
    world
        .core
        .apps
        .get_mut(&id)
        .unwrap()
        .specs
        .insert(generation, std::sync::Arc::clone(&broken));
    world.disk.get_mut(&id).unwrap().spec = broken;
    let run = *world.procs.keys().next().unwrap();
    for _ in 0..30 {
        world.pass(1000);
        world.feed(crate::supervise::Input::Memory(run, Bytes(1 << 40)));
    }
    assert!(world.spawns.len() <= 4, "{}", world.spawns.len());
    assert_eq!(world.serving("api").len(), 2);
}

#[test]
fn a_generation_that_misses_a_variable_is_never_started() {
    for keep in [false, true] {
        let mut world = up("good", 3);
        let mut app = next("better", 3, Order::StopFirst, 1);
        app.require.env = vec!["DATABASE_URL".into()];
        let command = Command::Apply {
            apps: vec![app],
            update_env: true,
            no_rollback: keep,
        };
        let error = world.run(command).unwrap_err();
        assert!(error.message.contains("DATABASE_URL is not set"), "{}", error.message);
        assert_eq!(world.spawns.len(), 3);
        assert_eq!(world.serving("api"), ["good"; 3]);
    }
}
