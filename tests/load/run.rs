//! One run: for each server reloads, broken generations and incidents; then the table.

use clmgr::os::clock;

use crate::generator::trial;
use crate::report::Report;
use crate::service::Server;
use crate::settings::Settings;
use crate::world::World;
use crate::{broken, demand, incidents, reloads};

/// Every server has a home of its own.
const TOURS: [Server; 5] = [
    Server::NodeCluster,
    Server::Rust,
    Server::Python,
    // These two lose requests by their own doing, and show that the load sees it.
    Server::NodeBare,
    Server::NodeFd,
];

/// True if nothing was wrong.
pub(crate) fn run() -> anyhow::Result<bool> {
    let settings = Settings::read()?;
    trial::check()?;
    println!(
        "CLMGR_LOAD_SEED={} ({} reloads of each server, each broken generation {} times, each incident {} times)",
        settings.seed, settings.reloads, settings.broken, settings.incidents
    );
    let report = Report::default();
    let begin = clock::monotonic();
    let node = has_node();
    if !node {
        eprintln!("SKIPPED: there is no node here, so nothing is said about servers in it");
        report.note("no node: its rows are missing");
    }
    let tours = TOURS
        .into_iter()
        .filter(|server| settings.long || !server.races())
        .filter(|server| node || !server.is_node());
    std::thread::scope(|scope| {
        for server in tours {
            let (report, settings) = (&report, &settings);
            let tour = scope.spawn(move || {
                if let Err(error) = tour(report, settings, server) {
                    report.wrong(format!("{}: {error:#}", server.as_str()));
                }
            });
            // The long form gives the machine to each.
            if settings.long && tour.join().is_err() {
                report.wrong(format!("{}: a thread panicked", server.as_str()));
            }
        }
    });
    let (table, good) = report.render();
    println!("{table}took {}", clock::monotonic().since(begin));
    Ok(good)
}

/// Everything that happens to one server.
fn tour(report: &Report, settings: &Settings, server: Server) -> anyhow::Result<()> {
    let world = World::new()?;
    let before = report.count_wrong();
    if settings.wants(&format!("reloads: {}", server.as_str()))
        && let Err(error) = reloads::run(&world, report, settings, server)
    {
        report.wrong(format!("reloads: {}: {error:#}", server.as_str()));
    }
    if matches!(server, Server::Rust | Server::NodeCluster) {
        broken::run(&world, report, settings, server);
        incidents::run(&world, report, settings, server);
    }
    if server == Server::Rust
        && settings.wants("first connections: rust")
        && let Err(error) = demand::run(&world, report, settings)
    {
        report.wrong(format!("first connections: {error:#}"));
    }
    let left = world.end()?;
    if left > 0 {
        report.wrong(format!("`clmgr kill` left {left} processes"));
    }
    if report.count_wrong() == before {
        std::fs::remove_dir_all(world.root())?;
    } else {
        println!("to be looked at: {}", world.root().display());
    }
    Ok(())
}

fn has_node() -> bool {
    let said = std::process::Command::new("node").arg("--version").output();
    said.is_ok_and(|said| said.status.success())
}
