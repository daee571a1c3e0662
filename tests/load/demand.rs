//! An app that nobody needs does not run; the first connections start it and are served.

use anyhow::Context as _;

use crate::generator::tally::Tally;
use crate::generator::{Load, Pace, Plan};
use crate::report::{Report, Row};
use crate::service::{Server, Spec};
use crate::settings::Settings;
use crate::world::World;

/// Connections that come at once.
const CROWD: usize = 20;

/// Lets it sleep, and wakes it by a crowd, so often.
pub(crate) fn run(world: &World, report: &Report, settings: &Settings) -> anyhow::Result<()> {
    let more = "start = \"on-demand\"\nidle_timeout = \"200ms\"";
    let spec = Spec::new("on-demand", Server::Rust, 2, more)?;
    let file = spec.write(world)?;
    world.done(&["start", file.to_str().context("a strange path")?])?;
    let port = world.port(&spec.name)?;
    let mut sum = Tally::default();
    for turn in 0..settings.incidents {
        world.until("nobody runs", || Ok(world.processes(&spec.name).is_empty()))?;
        let load = Load::begin(Plan {
            port,
            keep_alive: turn % 2 == 1,
            connections: CROWD,
            slow: 10,
            pace: Pace::Closed,
            seed: settings.seed + u64::from(turn),
        });
        load.goes_on(3 * CROWD as u64);
        sum.add(load.end()?);
    }
    report.row(Row {
        what: "first connections: rust".to_owned(),
        times: settings.incidents,
        tally: sum,
        own: 0,
        races: false,
    });
    world.done(&["delete", &spec.name])?;
    Ok(())
}
