//! The table, and what is wrong.

use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::generator::tally::{Failure, Tally};

/// How many failures of a row are told in full.
const TOLD: usize = 6;

/// A line of the table.
#[derive(Debug)]
pub(crate) struct Row {
    /// What happened, to which server, under which load.
    pub(crate) what: String,
    /// How often.
    pub(crate) times: u32,
    /// The requests meanwhile.
    pub(crate) tally: Tally,
    /// Requests that were lost with the process that had accepted them.
    pub(crate) own: u64,
    /// The server closes connections on which a request may be under way, and nothing can be done about it.
    pub(crate) races: bool,
}

#[derive(Debug, Default)]
struct Inner {
    rows: Vec<Row>,
    wrong: Vec<String>,
    notes: Vec<String>,
}

/// Shared by all threads of a run.
#[derive(Debug, Default)]
pub(crate) struct Report(Mutex<Inner>);

impl Report {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more line. What failed in it without an excuse is wrong.
    pub(crate) fn row(&self, row: Row) {
        let mut inner = self.inner();
        let bad = row
            .tally
            .losses
            .iter()
            .filter(|loss| !(row.races && loss.failure == Failure::Raced));
        for loss in bad.clone().take(TOLD) {
            let text = format!("{}: {}: {}", row.what, loss.failure.as_str(), loss.text);
            inner.wrong.push(text);
        }
        let more = bad.count().saturating_sub(TOLD);
        if more > 0 {
            inner
                .wrong
                .push(format!("{}: and {more} more failed requests", row.what));
        }
        if row.tally.answered == 0 {
            inner.wrong.push(format!("{}: nothing was answered", row.what));
        }
        println!("{}", line(&row));
        inner.rows.push(row);
    }

    /// Something that may not happen.
    pub(crate) fn wrong(&self, text: impl Into<String>) {
        let text = text.into();
        println!("WRONG: {text}");
        self.inner().wrong.push(text);
    }

    /// How much is wrong so far.
    pub(crate) fn count_wrong(&self) -> usize {
        self.inner().wrong.len()
    }

    /// Something that is not wrong by itself.
    pub(crate) fn note(&self, text: impl Into<String>) {
        self.inner().notes.push(text.into());
    }

    /// The table, and true if nothing is wrong.
    pub(crate) fn render(&self) -> (String, bool) {
        let inner = self.inner();
        let mut text = format!("\n{}\n", head());
        let mut answered = 0;
        for row in &inner.rows {
            answered += row.tally.answered;
            let _ = writeln!(text, "{}", line(row));
        }
        let _ = writeln!(text, "answered in all: {answered}");
        for note in &inner.notes {
            let _ = writeln!(text, "note: {note}");
        }
        for wrong in &inner.wrong {
            let _ = writeln!(text, "WRONG: {wrong}");
        }
        (text, inner.wrong.is_empty())
    }
}

fn head() -> String {
    let mut text = format!("{:<52} {:>5} {:>8}", "what", "times", "answered");
    for failure in Failure::ALL {
        let _ = write!(text, " {:>7}", failure.as_str());
    }
    let _ = write!(text, " {:>7} {:>7} {:>7} {:>7}", "own", "p50 ms", "p99", "max");
    text
}

fn line(row: &Row) -> String {
    let mut tally = row.tally.clone();
    let mut text = format!("{:<52} {:>5} {:>8}", row.what, row.times, tally.answered);
    for failure in Failure::ALL {
        let _ = write!(text, " {:>7}", tally.failed(failure));
    }
    let _ = write!(
        text,
        " {:>7} {:>7.1} {:>7.1} {:>7.1}",
        row.own,
        tally.quantile(0.5),
        tally.quantile(0.99),
        tally.quantile(1.0)
    );
    text
}
