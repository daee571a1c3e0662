//! Every exit that an app announced is in the event log, once, as it was.

use std::collections::BTreeMap;

use clmgr::model::event::{Event, EventKind};
use clmgr::model::exit::ExitStatus;

use super::Known;
use crate::ledger::{Entry, Record};
use crate::report::Report;

/// The exits of every life, in the order of the lives: a pid is given again after a while.
fn lives<'a>(known: &Known<'a>) -> BTreeMap<(&'a str, i32), Vec<Vec<&'a Event>>> {
    let mut lives = BTreeMap::<(&str, i32), Vec<Vec<&Event>>>::new();
    for event in known.events.all.values() {
        let (Some(app), Some(pid)) = (&event.app, event.pid) else {
            continue;
        };
        let of_pid = lives.entry((app.as_str(), pid)).or_default();
        match event.kind {
            EventKind::Started => of_pid.push(Vec::new()),
            EventKind::Exited => match of_pid.last_mut() {
                Some(life) => life.push(event),
                None => of_pid.push(vec![event]),
            },
            _ => {}
        }
    }
    lives
}

pub(super) fn check(known: &Known<'_>, report: &Report) {
    let lives = lives(known);
    let mut born = BTreeMap::<(&str, i32), Vec<u64>>::new();
    for entry in known.ledger.iter().filter(|entry| entry.record == Record::Born) {
        born.entry((entry.app.as_str(), entry.pid)).or_default().push(entry.at);
    }
    for entry in known.ledger {
        let expected = match entry.record {
            Record::Code(code) => ExitStatus::Code(code),
            Record::Signal(signal) => ExitStatus::Signal(signal),
            Record::Born | Record::Wrote(_) => continue,
        };
        report.count("exits expected", 1);
        if known
            .outages
            .iter()
            .any(|out| (out.from.0..out.to.0).contains(&entry.at))
        {
            report.count("exits while no daemon lived", 1);
        }
        let key = (entry.app.as_str(), entry.pid);
        let births = born.get(&key).map_or(&[][..], Vec::as_slice);
        let life = births.partition_point(|at| *at <= entry.at).saturating_sub(1);
        let born = births.get(life).copied().unwrap_or(0);
        let found = lives.get(&key).and_then(|lives| lives.get(life));
        let found = found.map_or(&[][..], Vec::as_slice);
        let orphaned = orphaned(known, born, entry);
        match found {
            [] if known.is_unseen(born, Some(entry.at)) => report.count("exits that nobody could see", 1),
            [] => report.wrong("exits lost", 1, told(known, entry, "has no event")),
            [event] => match event.exit.map(|exit| exit.status) {
                Some(status) if status == expected => {}
                Some(ExitStatus::Unknown) if orphaned => report.count("exits recorded as unknown", 1),
                other => report.wrong(
                    "exits wrong",
                    1,
                    told(known, entry, &format!("is recorded as {other:?}")),
                ),
            },
            more => {
                let seqs: Vec<u64> = more.iter().map(|event| event.seq).collect();
                report.wrong(
                    "exits repeated",
                    1,
                    told(known, entry, &format!("has the events {seqs:?}")),
                );
            }
        }
    }
}

/// A keeper died while it lived: its parent cannot tell how it ended.
fn orphaned(known: &Known<'_>, born: u64, entry: &Entry) -> bool {
    known
        .outages
        .iter()
        .any(|out| out.keeper && out.from.0 <= entry.at && out.to.0 >= born)
}

fn told(known: &Known<'_>, entry: &Entry, what: &str) -> String {
    let outage = known
        .outages
        .iter()
        .rposition(|out| out.from.0 <= entry.at)
        .map_or_else(
            || "before the first kill".to_owned(),
            |at| {
                let since = (entry.at - known.outages[at].from.0) / 1_000_000;
                let length = known.outages[at].to.since(known.outages[at].from);
                format!("{since} ms after kill {at}, which lasted {length}")
            },
        );
    format!(
        "{:?} of {}:{} (pid {}), {outage}, {what}",
        entry.record, entry.app, entry.slot, entry.pid
    )
}
