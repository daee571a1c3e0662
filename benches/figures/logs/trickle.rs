//! 500 apps that write a line a second.

use std::fmt::Write as _;
use std::thread;
use std::time::Duration;

use anyhow::ensure;

use crate::bed::Bed;
use crate::home::Home;
use crate::logs::writer::Format;
use crate::proc;
use crate::table::{Limit, Row};

/// How many.
const APPS: usize = 500;

/// After this long, nothing of the start is left to do.
pub(super) const SETTLE: Duration = Duration::from_secs(7);

/// The share of a core that daemon and keeper use, against the same apps writing to /dev/null.
pub(crate) fn trickle(bed: &Bed) -> anyhow::Result<Vec<Row>> {
    let (idle, _) = usage(bed, "silent", Format::Raw, "null")?;
    let mut rows = Vec::new();
    for (format, name) in [(Format::Raw, "trickle"), (Format::Stamped, "stamped")] {
        let (daemon, keeper) = usage(bed, name, format, "")?;
        let row = |who: &str, share, limit| {
            let figure = format!("share of a core, {APPS} apps at 1 line/s, {format}, {who}");
            Row::share(figure, share, limit)
        };
        rows.push(row("daemon", daemon, Limit::AtMost(0.005)).against(idle));
        rows.push(row("keeper", keeper, Limit::None));
        if bed.quick() {
            break;
        }
    }
    Ok(rows)
}

/// The shares of daemon and keeper.
fn usage(bed: &Bed, name: &str, format: Format, to: &str) -> anyhow::Result<(f64, f64)> {
    let home = Home::start(bed, name)?;
    home.run(&["start", &home.ecosystem(&apps(bed, APPS, format, to))?])?;
    let alive = home.alive()?;
    ensure!(alive == APPS, "{alive} of {APPS} apps run");
    thread::sleep(SETTLE);
    let span = Duration::from_secs(if bed.quick() { 10 } else { 30 });
    let before = (proc::cpu(home.daemon)?, proc::cpu(home.keeper)?);
    thread::sleep(span);
    let share = |pid, before| anyhow::Ok((proc::cpu(pid)? - before) / span.as_secs_f64());
    Ok((share(home.daemon, before.0)?, share(home.keeper, before.1)?))
}

/// Apps that write a line a second, each at its own moment of the second; `to` is `null` or empty.
pub(super) fn apps(bed: &Bed, count: usize, format: Format, to: &str) -> String {
    let mut text = String::new();
    let ticks = bed.path("ticks");
    for number in 0..count {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "[[apps]]\nname = \"t{number}\"\ncmd = [\"{}\", \"{to}\"]\n{}",
            ticks.display(),
            format.key()
        );
    }
    text
}
