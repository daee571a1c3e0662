//! Every rollout that the event log has begin, it has end; what became of those during which somebody died.

use clmgr::model::event::EventKind;

use super::Known;
use crate::fleet;
use crate::report::Report;

pub(super) fn check(known: &Known<'_>, report: &Report) {
    let deaths: Vec<u64> = known
        .events
        .all
        .values()
        .filter(|event| matches!(event.kind, EventKind::DaemonStarted | EventKind::KeeperReplaced))
        .map(|event| event.seq)
        .collect();
    for app in fleet::names("rolled").into_iter().chain(fleet::names("web")) {
        let mut begun = None;
        for event in known.events.of(&app) {
            match event.kind {
                EventKind::ReloadStarted => {
                    report.count("rollouts begun", 1);
                    if let Some(seq) = begun.replace(event.seq) {
                        let text = format!("{app}: {seq} has no end before {}", event.seq);
                        report.wrong("rollouts without end", 1, text);
                    }
                }
                EventKind::ReloadDone | EventKind::ReloadRolledBack | EventKind::ReloadFailed => {
                    let Some(begin) = begun.take() else {
                        let text = format!("{app}: {} ends what never began: {}", event.seq, event.message);
                        report.wrong("rollouts without end", 1, text);
                        continue;
                    };
                    let interrupted = deaths.iter().any(|seq| (begin..event.seq).contains(seq));
                    match (event.kind, interrupted) {
                        (EventKind::ReloadDone, true) => report.count("rollouts interrupted, then finished", 1),
                        (EventKind::ReloadDone, false) => {}
                        (_, true) => {
                            report.count("rollouts interrupted, then rolled back", 1);
                            report.said("rolled back", &event.message);
                        }
                        (_, false) => {
                            report.count("rollouts rolled back as they should be", 1);
                            report.said("rolled back", &event.message);
                        }
                    }
                }
                _ => {}
            }
        }
        if let Some(seq) = begun {
            report.wrong("rollouts without end", 1, format!("{app}: {seq} never ends"));
        }
    }
}
