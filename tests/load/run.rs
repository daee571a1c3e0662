//! One run: reloads, broken generations, incidents; then the table.

use clmgr::os::clock;

use crate::generator::answer;
use crate::report::Report;
use crate::service::Server;
use crate::settings::Settings;
use crate::world::World;
use crate::{broken, incidents, reloads};

/// True if nothing was wrong.
pub(crate) fn run() -> anyhow::Result<bool> {
    let settings = Settings::read()?;
    anyhow::ensure!(
        answer::check(),
        "the generator cannot tell a good answer from a bad one"
    );
    println!(
        "CLMGR_LOAD_SEED={} ({} reloads of each server, each broken generation {} times, each incident {} times)",
        settings.seed, settings.reloads, settings.broken, settings.incidents
    );
    let world = World::new()?;
    let report = Report::default();
    let begin = clock::monotonic();
    let result = happen(&world, &report, &settings);
    if let Err(error) = &result {
        report.wrong(format!("{error:#}"));
    }
    let left = world.end()?;
    if left > 0 {
        report.wrong(format!("`clmgr kill` left {left} processes"));
    }
    let (table, good) = report.render();
    println!("{table}took {}", clock::monotonic().since(begin));
    if good {
        std::fs::remove_dir_all(world.root())?;
    } else {
        println!("to be looked at: {}", world.root().display());
    }
    Ok(good)
}

fn happen(world: &World, report: &Report, settings: &Settings) -> anyhow::Result<()> {
    for server in [Server::Rust, Server::Python, Server::NodeFd] {
        if settings.wants(&format!("reloads {}", server.as_str())) {
            reloads::run(world, report, settings, server)?;
        }
    }
    broken::run(world, report, settings)?;
    incidents::run(world, report, settings, Server::Rust)
}
