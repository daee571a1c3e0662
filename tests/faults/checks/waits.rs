//! Crash loops wait longer each time, whoever decides; open circuits stay open.

use clmgr::model::duration::Millis;
use clmgr::model::event::EventKind;

use super::Known;
use crate::fleet;
use crate::ledger::Record;
use crate::report::Report;

/// Event times are in whole milliseconds, and a wait begins a moment before its event.
const BLUR: i64 = 20;

pub(super) fn check(known: &Known<'_>, report: &Report) {
    for (app, (first, factor)) in fleet::names("loop").iter().zip(fleet::BACKOFFS) {
        let mut expected = Millis(first);
        let mut waiting = None;
        for event in known.events.of(app) {
            if event.kind == EventKind::Backoff {
                report.count("waits of crash loops checked", 1);
                let wait = event
                    .message
                    .rsplit_once("next start in ")
                    .and_then(|(_, wait)| wait.parse::<Millis>().ok());
                if wait != Some(expected) {
                    let text = format!("{app}: {} says {:?} instead of {expected}", event.seq, event.message);
                    report.wrong("waits reset", 1, text);
                }
                waiting = Some((event.at.0, expected));
                expected = Millis(expected.0 * u64::from(factor));
            } else if event.kind == EventKind::Started
                && let Some((since, wait)) = waiting.take()
            {
                let waited = event.at.0 - since;
                if waited + BLUR < i64::try_from(wait.0).unwrap_or(i64::MAX) {
                    let text = format!("{app}: {} comes after {waited} ms instead of {wait}", event.seq);
                    report.wrong("waits reset", 1, text);
                }
            }
        }
    }
    for app in fleet::names("open") {
        report.count("open circuits checked", 1);
        let opened = known
            .events
            .of(&app)
            .filter(|event| event.kind == EventKind::CircuitOpen)
            .count();
        let born = known
            .ledger
            .iter()
            .filter(|entry| entry.app == app && entry.record == Record::Born)
            .count();
        if opened != 1 || born != fleet::OPENS_AT {
            let text = format!("{app}: opened {opened} times, born {born} times");
            report.wrong("circuits reset", 1, text);
        }
    }
    for event in known.events.all.values() {
        if matches!(
            event.kind,
            EventKind::LogLost | EventKind::StateLost | EventKind::SpawnFailed
        ) {
            report.wrong("losses reported", 1, format!("{}: {}", event.kind, event.message));
        }
    }
}
