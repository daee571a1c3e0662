//! One run: reloads, broken generations, incidents; then the table.

use clmgr::os::clock;

use crate::generator::trial;
use crate::report::Report;
use crate::service::Server;
use crate::settings::Settings;
use crate::world::World;
use crate::{broken, demand, incidents, reloads};

/// Servers that are reloaded.
const RELOADED: [Server; 3] = [Server::NodeCluster, Server::Rust, Server::Python];
/// Servers that lose requests by their own doing, to show that the load sees it. Only in the long form.
const RACING: [Server; 2] = [Server::NodeBare, Server::NodeFd];
/// Servers that everything else happens to.
const TROUBLED: [Server; 2] = [Server::Rust, Server::NodeCluster];

/// True if nothing was wrong.
pub(crate) fn run() -> anyhow::Result<bool> {
    let settings = Settings::read()?;
    trial::check()?;
    println!(
        "CLMGR_LOAD_SEED={} ({} reloads of each server, each broken generation {} times, each incident {} times)",
        settings.seed, settings.reloads, settings.broken, settings.incidents
    );
    let world = World::new()?;
    let report = Report::default();
    let begin = clock::monotonic();
    happen(&world, &report, &settings);
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

fn happen(world: &World, report: &Report, settings: &Settings) {
    let node = has_node();
    if !node {
        eprintln!("SKIPPED: there is no node here, so nothing is said about servers in it");
        report.note("no node: its rows are missing");
    }
    let exists = |server: &Server| node || matches!(server, Server::Rust | Server::Python);
    let racing = if settings.long { &RACING[..] } else { &[] };
    for server in RELOADED.iter().chain(racing).filter(|server| exists(server)) {
        if settings.wants(&format!("reloads: {}", server.as_str())) {
            if let Err(error) = reloads::run(world, report, settings, *server) {
                report.wrong(format!("reloads: {}: {error:#}", server.as_str()));
            }
        }
    }
    for server in TROUBLED.iter().filter(|server| exists(server)) {
        broken::run(world, report, settings, *server);
        incidents::run(world, report, settings, *server);
    }
    if settings.wants("first connections: rust")
        && let Err(error) = demand::run(world, report, settings)
    {
        report.wrong(format!("first connections: {error:#}"));
    }
}

fn has_node() -> bool {
    let said = std::process::Command::new("node").arg("--version").output();
    said.is_ok_and(|said| said.status.success())
}
