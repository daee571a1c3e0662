//! Nobody lived twice: in an app whose processes announce their end, each life begins after the one before it was
//! announced to end; others were born as often as the event log says.

use std::collections::BTreeMap;

use clmgr::model::event::EventKind;

use super::Known;
use crate::fleet;
use crate::ledger::Record;
use crate::report::Report;

pub(super) fn check(known: &Known<'_>, report: &Report) {
    let mut births = BTreeMap::<&str, usize>::new();
    let mut living = BTreeMap::<(&str, u32), i32>::new();
    for entry in known.ledger {
        let instance = (entry.app.as_str(), entry.slot);
        match entry.record {
            Record::Born => {
                report.count("lives that began", 1);
                *births.entry(&entry.app).or_default() += 1;
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
    for (app, count) in births {
        let of_app = || known.events.of(app);
        let started = of_app().filter(|event| event.kind == EventKind::Started).count();
        // Told to stop before it could say a word, or it could not be told whether it was born: a few at most.
        let stopped = of_app()
            .filter(|event| matches!(event.kind, EventKind::Exited | EventKind::Stopped))
            .count();
        if started < count || started - count > stopped {
            let text = format!("{app}: born {count} times, started {started} times");
            report.wrong("births not recorded", 1, text);
        }
    }
}
