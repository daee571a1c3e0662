//! What is counted and what is wrong, and the table of both.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use clmgr::model::duration::Millis;

/// How many of each kind of trouble are told in full.
const TOLD: usize = 8;

/// A line of the table: what is counted, and what may not happen to it.
const ROWS: &[(&str, &[&str])] = &[
    ("upgrades", &["not upgraded"]),
    ("daemons killed", &["not answering"]),
    ("keepers killed", &["not replaced"]),
    ("both killed at once", &["not back"]),
    ("requests answered", &["requests failed"]),
    ("requests that nobody could answer", &[]),
    (
        "log lines expected",
        &["lines lost", "lines repeated", "lines out of order", "lines broken"],
    ),
    ("exits expected", &["exits lost", "exits wrong", "exits repeated"]),
    ("exits recorded as unknown", &[]),
    ("exits that nobody could see", &[]),
    ("exits while no daemon lived", &[]),
    ("instances watched", &["pids changed without reason"]),
    ("lives that began", &["duplicates", "births not recorded"]),
    (
        "commands acknowledged and checked",
        &["acknowledged but untrue", "neither done nor left"],
    ),
    ("commands answered with no", &[]),
    ("commands whose answer was lost", &[]),
    ("rollouts begun", &["rollouts without end"]),
    ("rollouts interrupted, then finished", &[]),
    ("rollouts interrupted, then rolled back", &[]),
    ("rollouts rolled back as they should be", &[]),
    ("waits of crash loops checked", &["waits reset", "counters reset"]),
    ("open circuits checked", &["circuits reset"]),
    ("events read", &["events renumbered", "losses reported"]),
];

#[derive(Debug, Default)]
struct Inner {
    counts: BTreeMap<&'static str, u64>,
    wrong: BTreeMap<&'static str, (u64, Vec<String>)>,
    said: BTreeMap<&'static str, BTreeMap<String, u64>>,
    waits: BTreeMap<&'static str, Vec<Millis>>,
}

/// Shared by all threads of a run.
#[derive(Debug, Default)]
pub(crate) struct Report(Mutex<Inner>);

impl Report {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts.
    pub(crate) fn count(&self, what: &'static str, more: u64) {
        *self.inner().counts.entry(what).or_default() += more;
    }

    /// So many cases of something that may not happen.
    pub(crate) fn wrong(&self, what: &'static str, how_often: u64, text: impl Into<String>) {
        let mut inner = self.inner();
        let (count, texts) = inner.wrong.entry(what).or_default();
        *count += how_often;
        if texts.len() < TOLD {
            texts.push(text.into());
        }
    }

    /// Something that is not wrong by itself, told with how often it was said.
    pub(crate) fn said(&self, what: &'static str, text: impl Into<String>) {
        *self
            .inner()
            .said
            .entry(what)
            .or_default()
            .entry(text.into())
            .or_default() += 1;
    }

    /// One more measured time.
    pub(crate) fn took(&self, what: &'static str, wait: Millis) {
        self.inner().waits.entry(what).or_default().push(wait);
    }

    /// The table, and true if nothing is wrong.
    pub(crate) fn render(&self) -> (String, bool) {
        let inner = self.inner();
        let mut text = String::new();
        let mut good = true;
        for (what, zeros) in ROWS {
            let count = inner.counts.get(what).copied().unwrap_or(0);
            let _ = write!(text, "{what:<42} {count:>10}");
            for zero in *zeros {
                let wrong = inner.wrong.get(zero).map_or(0, |known| known.0);
                let _ = write!(text, "   {zero} {wrong}");
            }
            text.push('\n');
        }
        for (what, waits) in &inner.waits {
            let mut sorted = waits.clone();
            sorted.sort_unstable();
            let at = |share: usize| sorted[(sorted.len() - 1) * share / 100];
            let _ = writeln!(
                text,
                "{what:<42} {:>10}   p50 {}   p99 {}   max {}",
                sorted.len(),
                at(50),
                at(99),
                at(100)
            );
        }
        for (what, lines) in &inner.said {
            for (line, count) in lines {
                let _ = writeln!(text, "{what}, {count} times: {line}");
            }
        }
        for (what, (count, texts)) in &inner.wrong {
            good = false;
            let _ = writeln!(text, "WRONG: {what}: {count}");
            for line in texts {
                let _ = writeln!(text, "    {line}");
            }
        }
        (text, good)
    }
}
