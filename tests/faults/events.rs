//! The event log, read again and again while daemons die: what was read once must stay as it was.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use anyhow::Context as _;
use clmgr::api::routes;
use clmgr::model::event::Event;
use clmgr::os::clock;

use crate::report::Report;
use crate::world::{PATIENCE, World};

/// How many of the events that are known already are read again each time.
const AGAIN: u64 = 50;

/// Every event so far, by its number.
#[derive(Debug, Default)]
pub(crate) struct Events {
    /// In order.
    pub(crate) all: BTreeMap<u64, Event>,
}

impl Events {
    /// Reads what is new.
    pub(crate) fn read(&mut self, world: &World, report: &Report) -> anyhow::Result<()> {
        let last = self.all.last_key_value().map_or(0, |(seq, _)| *seq);
        let after = last.saturating_sub(AGAIN);
        let until = clock::monotonic().after(PATIENCE);
        let fresh = loop {
            match fetch(world, after) {
                Err(_) if clock::monotonic() < until => {}
                other => break other?,
            }
        };
        let fresh: BTreeMap<u64, Event> = fresh.into_iter().map(|event| (event.seq, event)).collect();
        for (seq, known) in self.all.range(after + 1..) {
            if fresh.get(seq) != Some(known) {
                let now = fresh.get(seq).map(|event| &event.message);
                report.wrong(
                    "events renumbered",
                    1,
                    format!("{seq} was {} {:?} and is {now:?}", known.kind, known.message),
                );
            }
        }
        let before = self.all.len();
        self.all.extend(fresh);
        report.count("events read", (self.all.len() - before) as u64);
        Ok(())
    }

    /// The events of an app, in order.
    pub(crate) fn of<'a>(&'a self, app: &'a str) -> impl Iterator<Item = &'a Event> {
        self.all
            .values()
            .filter(move |event| event.app.as_ref().is_some_and(|name| name.as_str() == app))
    }
}

fn fetch(world: &World, after: u64) -> anyhow::Result<Vec<Event>> {
    let query = [("after", after.to_string()), ("limit", "10000".to_owned())];
    let mut events = Vec::new();
    let mut trouble = None;
    world.connect()?.stream(routes::EVENTS, &query, |line| {
        match serde_json::from_slice(line) {
            Ok(event) => events.push(event),
            Err(error) => trouble = Some(error),
        }
        ControlFlow::Continue(())
    })?;
    match trouble {
        Some(error) => Err(error).context("an event cannot be read"),
        None => Ok(events),
    }
}
