//! Connections and requests per second, and what one costs.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;

use super::BUSY;
use super::measure::{Sample, measure};
use super::side::{Side, Who};
use crate::bed::Bed;
use crate::load::Pattern;
use crate::stats::median;
use crate::table::{Limit, Row};

const OURS: Who = Who::Clmgr("");

/// Everybody in turns, a connection for each request and then many requests on each connection.
pub(crate) fn speed(bed: &Bed) -> anyhow::Result<Vec<Row>> {
    let mut sides = Vec::new();
    for who in [Who::RoundRobin, Who::SharedHandle, Who::Pm2, Who::Group, OURS] {
        if who == Who::Pm2 && bed.tool("pm2").is_none() {
            eprintln!("PM2 is left out: there is no pm2; `npm install --prefix target/tools pm2` brings it");
            continue;
        }
        sides.push(Side::start(bed, who, &[])?);
    }
    let (rounds, time) = bed.rounds();
    let (mut close, mut keep) = (Found::default(), Found::default());
    for round in 0..rounds {
        // Another one begins each round.
        sides.rotate_left(usize::from(round > 0));
        for side in &sides {
            close.add(side, Pattern::Close(BUSY), time)?;
            keep.add(side, Pattern::KeepAlive(BUSY), time)?;
        }
    }
    rows(&close, &keep)
}

/// The samples of every contestant.
#[derive(Debug, Default)]
struct Found(BTreeMap<Who, Vec<Sample>>);

impl Found {
    fn add(&mut self, side: &Side<'_>, pattern: Pattern, time: Duration) -> anyhow::Result<()> {
        self.0.entry(side.who).or_default().push(measure(side, pattern, time)?);
        Ok(())
    }

    /// The median of one number, if the contestant took part.
    fn of(&self, who: Who, number: fn(&Sample) -> f64) -> Option<f64> {
        let samples = self.0.get(&who)?;
        Some(median(&samples.iter().map(number).collect::<Vec<_>>()))
    }

    fn ours(&self, number: fn(&Sample) -> f64) -> anyhow::Result<f64> {
        self.of(OURS, number).context("clmgr was not measured")
    }

    /// Our rate beside that of another, with a limit.
    fn against(&self, what: &str, who: Who, limit: Limit) -> anyhow::Result<Option<Row>> {
        let ours = self.ours(|sample| sample.rate)?;
        let name = format!("{what}, against {}", who.name());
        Ok(self
            .of(who, |sample| sample.rate)
            .map(|theirs| Row::rate(name, ours, limit).against(theirs)))
    }

    /// The others' p99 and CPU time, and ours.
    fn details(&self, what: &str) -> Vec<Row> {
        let mut rows = Vec::new();
        for who in self.0.keys() {
            let p99 = self.of(*who, |sample| sample.p99).unwrap_or_default();
            let cpu = self.of(*who, |sample| sample.cpu).unwrap_or_default();
            let variation = self.of(*who, |sample| sample.variation).unwrap_or_default();
            let name = |number: &str| format!("{what}, {number}, {}", who.name());
            rows.push(Row::time(name("p99"), p99, Limit::None));
            rows.push(Row::time(name("CPU time of one"), cpu, Limit::None));
            let above = self.of(*who, |sample| sample.above).unwrap_or_default();
            if *who != Who::Group {
                rows.push(Row::time(name("of that above the workers"), above, Limit::None));
            }
            rows.push(Row::share(name("variation over workers"), variation, Limit::None));
        }
        rows
    }
}

fn rows(close: &Found, keep: &Found) -> anyhow::Result<Vec<Row>> {
    const CLOSE: &str = "connections/s";
    const KEEP: &str = "keep-alive requests/s";
    let mut rows = Vec::new();
    rows.extend(close.against(CLOSE, Who::Pm2, Limit::AtLeast(1.9))?);
    rows.extend(close.against(CLOSE, Who::RoundRobin, Limit::AtLeast(1.6))?);
    rows.extend(close.against(CLOSE, Who::SharedHandle, Limit::None)?);
    rows.extend(close.against(CLOSE, Who::Group, Limit::AtLeast(0.97))?);
    let others = [Who::RoundRobin, Who::SharedHandle, Who::Pm2, Who::Group];
    let best = others
        .into_iter()
        .filter_map(|who| Some((who, keep.of(who, |sample| sample.rate)?)))
        .max_by(|one, other| one.1.total_cmp(&other.1))
        .context("nobody to compare with")?
        .0;
    for who in others {
        let limit = match who {
            who if who == best => Limit::AtLeast(0.98),
            Who::Group => Limit::AtLeast(0.97),
            Who::RoundRobin | Who::SharedHandle | Who::Pm2 | Who::Clmgr(_) => Limit::None,
        };
        rows.extend(keep.against(KEEP, who, limit)?);
    }
    let cpu = close.ours(|sample| sample.cpu)?;
    if let Some(theirs) = close.of(Who::Pm2, |sample| sample.cpu) {
        rows.push(Row::time("CPU time of a connection, against PM2", cpu, Limit::Times(0.4)).against(theirs));
    }
    let variation = close.ours(|sample| sample.variation)?;
    rows.push(Row::share(
        "variation of connections over workers",
        variation,
        Limit::AtMost(0.05),
    ));
    rows.extend(close.details("connection"));
    rows.extend(keep.details("keep-alive request"));
    Ok(rows)
}
