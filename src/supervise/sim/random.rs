//! Random commands against random programs on a random disk, with daemons dying in between.
//!
//! In the first test the state is written out and read back before one step of ten, and the core that was read
//! back must decide the same from then on. In the second the daemon dies, with everything that only it knew.
//!
//! `CLMGR_SIM_STEPS` sets the number of steps, `CLMGR_SIM_SEED` the first seed; from a million steps on the state is
//! written out and read back before every step. A failure prints its seed and the last steps.

use std::sync::Arc;

use super::disturbances::disturb;
use super::specs::{Rng, spec};
use super::world::World;
use crate::model::duration::Millis;
use crate::model::env::EnvMap;
use crate::model::names::AppName;
use crate::model::size::Bytes;
use crate::model::spec::{AppSpec, Order, Ready, RestartMode};
use crate::model::target::{ScaleTo, Target};
use crate::supervise::Command;

const NAMES: [&str; 3] = ["api", "web", "job"];
const PROGRAMS: [&str; 15] = [
    "good",
    "good",
    "better",
    "crash",
    "ready-then-crash",
    "once",
    "once-3",
    "never-ready",
    "no-spawn",
    "starved",
    "deaf",
    "family",
    "fat",
    "wild",
    "wild",
];

fn random_spec(rng: &mut Rng) -> AppSpec {
    let name = rng.pick(&NAMES);
    let program = rng.pick(&PROGRAMS);
    let count = 1 + u32::try_from(rng.below(9)).unwrap();
    let mut spec = spec(name, program, count);
    if rng.one_in(2) {
        spec.ready = Ready::Spawn;
    }
    spec.ready_on_timeout = rng.one_in(5);
    spec.restart.mode = rng.pick(&[
        RestartMode::Always,
        RestartMode::Always,
        RestartMode::OnFailure,
        RestartMode::Never,
    ]);
    if rng.one_in(4) {
        spec.restart.stop_exit_codes = vec![3];
    }
    if rng.one_in(4) {
        spec.restart.delay = Millis(500);
    }
    if rng.one_in(4) {
        spec.restart.cooldown = None;
    }
    if rng.one_in(4) {
        spec.require.env = vec!["DATABASE_URL".into()];
    }
    if rng.one_in(2) {
        spec.env_base = random_env(rng);
    }
    if rng.one_in(3) {
        spec.stop.pre_stop = vec!["drain".into()];
    }
    spec.stop.kill_timeout = Millis(rng.pick(&[0, 1000, 10_000]));
    spec.stop.treekill = !rng.one_in(4);
    spec.max_memory_restart = rng.one_in(2).then_some(Bytes(1 << 20));
    spec.rollout.order = rng.pick(&[None, Some(Order::StartFirst), Some(Order::StopFirst)]);
    spec.rollout.parallel = rng.pick(&[1, 1, 2, 5]);
    spec.rollout.min_healthy = Millis(rng.pick(&[0, 500, 2000]));
    spec.rollout.deadline = Millis(rng.pick(&[5000, 300_000]));
    spec.rollout.rollback = !rng.one_in(5);
    spec.rollout.canary = rng.pick(&[0, 0, 1, 3]);
    super::disturbances::watched(rng, &mut spec);
    spec
}

fn random_env(rng: &mut Rng) -> Arc<EnvMap> {
    let mut env = EnvMap::new();
    if rng.one_in(2) {
        env.insert("DATABASE_URL".into(), "postgres://".into());
    }
    if rng.one_in(2) {
        env.insert("COLOUR".into(), "blue".into());
    }
    Arc::new(env)
}

fn whole(rng: &mut Rng) -> Vec<Target> {
    if rng.one_in(5) {
        return vec![Target::All];
    }
    vec![Target::Named(rng.pick(&NAMES).to_owned())]
}

fn some(rng: &mut Rng) -> Vec<Target> {
    if rng.one_in(2) {
        return whole(rng);
    }
    let name: AppName = rng.pick(&NAMES).parse().unwrap();
    let slot = u32::try_from(rng.below(4)).unwrap();
    vec![Target::Instance(name, slot)]
}

fn random_command(rng: &mut Rng, last: &mut Option<AppSpec>) -> Command {
    match rng.below(14) {
        0..4 => {
            let again = last.clone().filter(|_| rng.one_in(3));
            let mut spec = again.unwrap_or_else(|| random_spec(rng));
            if rng.one_in(4) {
                spec.instances = 1 + u32::try_from(rng.below(9)).unwrap();
            }
            *last = Some(spec.clone());
            let mut apps = vec![spec];
            let other = random_spec(rng);
            if rng.one_in(4) && other.name != apps[0].name {
                apps.push(other);
            }
            Command::Apply {
                apps,
                update_env: rng.one_in(2),
                no_rollback: rng.one_in(6),
            }
        }
        4 => Command::Start {
            targets: some(rng),
            env: None,
        },
        5 => Command::Start {
            targets: whole(rng),
            env: Some(random_env(rng)),
        },
        6 => Command::Stop { targets: some(rng) },
        7 => Command::Restart {
            targets: some(rng),
            env: None,
        },
        8 => Command::Restart {
            targets: whole(rng),
            env: Some(random_env(rng)),
        },
        9 | 10 => {
            let env = rng.one_in(2).then(|| random_env(rng));
            Command::Reload {
                targets: whole(rng),
                env,
                no_rollback: rng.one_in(5),
            }
        }
        11 => Command::Delete { targets: whole(rng) },
        12 => {
            let to = if rng.one_in(2) {
                ScaleTo::By(rng.pick(&[-2, -1, 1, 2]))
            } else {
                ScaleTo::Exactly(u32::try_from(rng.below(10)).unwrap())
            };
            Command::Scale {
                targets: whole(rng),
                to,
            }
        }
        _ => Command::Reset { targets: some(rng) },
    }
}

/// One history. Returns the steps it took.
fn history(seed: u64, deaths: bool, every_step: bool, world: &mut World) -> u64 {
    let mut rng = Rng(seed ^ 0xabcd);
    world.bad_disk = rng.pick(&[0, 0, 3]);
    world.exclusive = rng.one_in(2);
    world.sickly = rng.one_in(2);
    world.inspects = !rng.one_in(5);
    let pace = rng.pick(&[3, 10, 40]);
    let mut steps = 0;
    let mut last = None;
    for _ in 0..40 {
        for _ in 0..rng.below(pace) {
            steps += 1;
            if !deaths && (every_step || rng.one_in(10)) {
                world.cast_shadow();
            }
            if !world.step() {
                break;
            }
        }
        if deaths && rng.one_in(6) {
            world.daemon_dies();
        }
        if rng.one_in(2) {
            disturb(&mut rng, world);
        }
        let command = random_command(&mut rng, &mut last);
        world.ask(command);
    }
    let to_end = rng.one_in(3);
    if to_end {
        world.ask(Command::Shutdown);
    }
    // A fair end: half an hour is enough for every timeout there is.
    world.bad_disk = 0;
    let end = world.now.after(Millis::from_secs(3600));
    while world.now < end && world.step() {
        steps += 1;
        if to_end && world.core.is_shut_down() {
            world.down = true;
        }
        if world.asked.iter().all(|ticket| world.replies.contains_key(ticket)) && (!to_end || world.core.is_shut_down())
        {
            break;
        }
    }
    for ticket in &world.asked {
        let open: Vec<_> = world
            .core
            .apps
            .values()
            .flat_map(|app| app.goals.iter().map(move |goal| (app, goal)))
            .collect();
        assert!(
            world.replies.contains_key(ticket),
            "ticket {ticket} was never answered: {open:?}"
        );
    }
    assert_eq!(world.core.is_shut_down(), to_end);
    steps
}

fn run(deaths: bool) {
    let read = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let budget = read("CLMGR_SIM_STEPS").unwrap_or(100_000);
    let every_step = budget >= 1_000_000;
    let mut seed = read("CLMGR_SIM_SEED").unwrap_or(1);
    let (mut steps, mut restarts) = (0, 0);
    while steps < budget {
        let mut world = World::new(seed);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            history(seed, deaths, every_step, &mut world)
        }));
        match result {
            Ok(some) => steps += some.max(1),
            Err(panic) => {
                let from = world
                    .trace
                    .len()
                    .saturating_sub(read("CLMGR_SIM_TRACE").map_or(60, |n| usize::try_from(n).unwrap()));
                println!("{}", world.trace[from..].join("\n"));
                println!("seed {seed}, deaths {deaths}: CLMGR_SIM_SEED={seed}");
                std::panic::resume_unwind(panic);
            }
        }
        restarts += world.restarts;
        seed += 1;
    }
    println!("{steps} steps, {restarts} restarts of the daemon");
}

#[test]
fn random_histories_keep_every_invariant() {
    run(false);
}

#[test]
fn random_histories_survive_the_death_of_the_daemon_between_any_two_steps() {
    run(true);
}
