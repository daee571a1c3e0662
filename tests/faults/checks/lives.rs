//! Nobody lived twice: in an app whose processes announce their end, each life begins after the one before it was
//! announced to end; and the event log knows everybody who was born.

use std::collections::{BTreeMap, BTreeSet};

use clmgr::model::event::EventKind;

use super::Known;
use crate::fleet;
use crate::ledger::Record;
use crate::report::Report;

pub(super) fn check(known: &Known<'_>, report: &Report) {
    let mut living = BTreeMap::<(&str, u32), i32>::new();
    for entry in known.ledger {
        let instance = (entry.app.as_str(), entry.slot);
        match entry.record {
            Record::Born => {
                report.count("lives that began", 1);
                let announces = ["exits", "loop", "open", "lines"].contains(&fleet::group(&entry.app));
                if let Some(other) = living.insert(instance, entry.pid)
                    && announces
                {
                    let text = format!(
                        "{}:{}: {} was born while {other} lived",
                        entry.app, entry.slot, entry.pid
                    );
                    report.wrong("duplicates", 1, text);
                }
            }
            Record::Code(_) | Record::Signal(_) | Record::Wrote(_) => {
                living.remove(&instance);
            }
        }
    }
    let ended: BTreeMap<i32, u64> = known
        .ledger
        .iter()
        .filter(|entry| entry.record != Record::Born)
        .map(|entry| (entry.pid, entry.at))
        .collect();
    let started: BTreeSet<i32> = known
        .events
        .all
        .values()
        .filter(|event| event.kind == EventKind::Started)
        .filter_map(|event| event.pid)
        .collect();
    for entry in known.ledger.iter().filter(|entry| entry.record == Record::Born) {
        if !started.contains(&entry.pid) && !known.is_unseen(entry.at, ended.get(&entry.pid).copied()) {
            let text = format!("{}:{}: {} has no event", entry.app, entry.slot, entry.pid);
            report.wrong("births not recorded", 1, text);
        }
    }
}
