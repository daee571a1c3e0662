//! One run: start the apps, let everything happen at once, end it, look at what is left.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, ensure};
use clmgr::model::duration::Millis;
use clmgr::model::state::State;
use clmgr::os::{clock, poll};

use crate::chaos::Chaos;
use crate::checks::{self, Known};
use crate::commands::{self, Commander};
use crate::load::{self, Failed, Load};
use crate::report::Report;
use crate::settings::Settings;
use crate::world::{World, lives};
use crate::{fleet, ledger};

/// Requests of one connection are this far apart.
const PAUSE: Millis = Millis(40);

/// True if nothing was wrong.
pub(crate) fn run() -> anyhow::Result<bool> {
    let settings = Settings::read()?;
    println!(
        "CLMGR_FAULTS_SEED={} ({} deaths of the daemon, {} of the keeper, {} of both, {} upgrades)",
        settings.seed, settings.daemons, settings.keepers, settings.both, settings.upgrades
    );
    let world = World::new()?;
    let report = Report::default();
    let begin = clock::monotonic();
    let result = happen(&world, &report, &settings);
    let left = world.end()?;
    if left > 0 {
        report.wrong("processes left", left as u64, "`clmgr kill` did not end them");
    }
    let (table, good) = report.render();
    println!("{table}took {}", clock::monotonic().since(begin));
    let good = good && result.is_ok();
    if good {
        std::fs::remove_dir_all(world.root())?;
    } else {
        println!("to be looked at: {}", world.root().display());
    }
    result.map(|()| good)
}

fn happen(world: &World, report: &Report, settings: &Settings) -> anyhow::Result<()> {
    fleet::write(world, settings)?;
    // Those with an open circuit make it fail.
    let said = world.cli(&["start", "ecosystem.toml"])?;
    ensure!(said.code <= 1, "the apps cannot be started: {}", said.err);
    world
        .until("all apps", || {
            let status = world.status(None)?;
            let settled = |app: &str, state| match fleet::group(app) {
                "open" => state == State::Errored,
                "loop" => true,
                "exits" => state != State::Errored,
                _ => state == State::Online,
            };
            Ok(status.apps.len() == 50 && status.apps.iter().all(|app| settled(app.name.as_str(), app.state)))
        })
        .with_context(|| said.err.clone())?;
    let mut chaos = Chaos::new(world, report, settings.seed)?;
    let stop = AtomicBool::new(false);
    let failed: Mutex<Vec<Failed>> = Mutex::default();
    std::thread::scope(|scope| {
        let (stop, failed) = (&stop, &failed);
        let mut commanders = Vec::new();
        for (number, kind) in commands::KINDS.into_iter().enumerate() {
            let commander = Commander::new(world, report, settings.seed ^ (number as u64 + 1));
            commanders.push(scope.spawn(move || commander.run(kind, stop)));
        }
        for (number, port) in ports(world)?.into_iter().enumerate() {
            for keep_alive in [true, false] {
                let who = u32::try_from(number * 2)? + u32::from(keep_alive);
                let load = Load {
                    report,
                    failed,
                    port,
                    keep_alive,
                    pause: PAUSE,
                };
                scope.spawn(move || load::run(&load, who, stop));
            }
        }
        let killed = chaos
            .upgrades(settings.upgrades)
            .and_then(|()| chaos.daemons(settings.daemons))
            .and_then(|()| chaos.keepers(settings.keepers))
            .and_then(|()| chaos.both(settings.both));
        // Whoever waits for something here gets it, or its own deadline.
        stop.store(true, Ordering::Release);
        for commander in commanders {
            match commander.join() {
                Ok(result) => result?,
                Err(_panic) => anyhow::bail!("a commander panicked"),
            }
        }
        killed
    })?;
    end(world, report, &mut chaos)?;
    let ledger = ledger::read(world.root())?;
    let known = Known {
        world,
        events: &chaos.events,
        ledger: &ledger,
        outages: &chaos.outages,
        failed: &failed.into_inner().unwrap_or_else(PoisonError::into_inner),
    };
    checks::all(&known, report)
}

/// Compares the processes with the status once more, and stops everything in good order.
fn end(world: &World, report: &Report, chaos: &mut Chaos<'_>) -> anyhow::Result<()> {
    let status = world.status(None)?;
    chaos.look(&status);
    let living = world.apps();
    for app in &status.apps {
        // The others come and go.
        if ["exits", "loop"].contains(&fleet::group(app.name.as_str())) {
            continue;
        }
        let said: BTreeSet<i32> = commands::pids(app).into_values().collect();
        let there: BTreeSet<i32> = living.get(app.name.as_str()).into_iter().flatten().copied().collect();
        if said != there {
            report.wrong(
                "duplicates",
                1,
                format!("{}: {said:?} are known and {there:?} live", app.name),
            );
        }
    }
    let (keepers, daemons) = world.managers();
    if keepers.len() != 1 || daemons.len() != 1 {
        report.wrong("duplicates", 1, format!("keepers {keepers:?}, daemons {daemons:?}"));
    }
    let said = world.cli(&["stop", "all"])?;
    ensure!(said.code == 0, "the apps cannot be stopped: {}", said.err);
    let left: Vec<i32> = world.apps().into_values().flatten().filter(|pid| lives(*pid)).collect();
    if !left.is_empty() {
        report.wrong("processes left", left.len() as u64, format!("{left:?} after stop all"));
    }
    // What is noted is written within a moment.
    poll::pause(Millis(200));
    chaos.events.read(world, report)?;
    let status = world.status(None)?;
    if let Some(app) = status.apps.iter().find(|app| app.state != State::Stopped) {
        report.wrong(
            "acknowledged but untrue",
            1,
            format!("{} is {} after stop all", app.name, app.state.as_str()),
        );
    }
    Ok(())
}

/// The ports of the web apps, which the kernel chose.
fn ports(world: &World) -> anyhow::Result<Vec<u16>> {
    let status = world.status(None)?;
    let web = status
        .apps
        .iter()
        .filter(|app| fleet::group(app.name.as_str()) == "web");
    web.map(|app| {
        let port = app.listeners.first().and_then(|listener| listener.port);
        port.with_context(|| format!("{} has no port", app.name))
    })
    .collect()
}
