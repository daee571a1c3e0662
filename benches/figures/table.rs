//! The table that is printed.

use std::fmt::Write as _;

use crate::stats::{bytes, seconds};

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Unit {
    /// Seconds.
    Time,
    /// Bytes.
    Size,
    /// So many per second.
    Rate,
    /// A share of one.
    Share,
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Self::Time => seconds(value),
            Self::Size => bytes(value),
            Self::Rate => format!("{value:.0}/s"),
            Self::Share => format!("{value:.4}"),
        }
    }
}

/// What is promised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Limit {
    /// At most this.
    AtMost(f64),
    /// At least this.
    NoLess(f64),
    /// At most this many times the baseline.
    Times(f64),
    /// At least this many times the baseline.
    AtLeast(f64),
    /// At least this share of the baseline's speed, both doing the same work.
    Speed(f64),
    /// Nothing; the row is there to compare with.
    None,
}

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    /// What was measured.
    pub(crate) figure: String,
    /// What its numbers count.
    pub(crate) unit: Unit,
    /// What it is.
    pub(crate) measured: f64,
    /// What the baseline is.
    pub(crate) baseline: Option<f64>,
    /// What it may be.
    pub(crate) limit: Limit,
}

impl Row {
    /// A duration in seconds.
    pub(crate) fn time(figure: impl Into<String>, measured: f64, limit: Limit) -> Self {
        Self {
            figure: figure.into(),
            unit: Unit::Time,
            measured,
            baseline: None,
            limit,
        }
    }

    /// A number of bytes.
    pub(crate) fn size(figure: impl Into<String>, measured: f64, limit: Limit) -> Self {
        Self {
            unit: Unit::Size,
            ..Self::time(figure, measured, limit)
        }
    }

    /// So many per second.
    pub(crate) fn rate(figure: impl Into<String>, measured: f64, limit: Limit) -> Self {
        Self {
            unit: Unit::Rate,
            ..Self::time(figure, measured, limit)
        }
    }

    /// A share of one.
    pub(crate) fn share(figure: impl Into<String>, measured: f64, limit: Limit) -> Self {
        Self {
            unit: Unit::Share,
            ..Self::time(figure, measured, limit)
        }
    }

    /// The same, beside what it is compared with.
    pub(crate) fn against(self, baseline: f64) -> Self {
        Self {
            baseline: Some(baseline),
            ..self
        }
    }

    /// The limit as text, the measured number as a multiple, and whether it is kept.
    fn judge(&self) -> (String, String, &'static str) {
        let word = |kept| if kept { "ok" } else { "MISS" };
        let multiple = self.baseline.map(|baseline| self.measured / baseline);
        let shown = multiple.map_or_else(String::new, |times| format!("{times:.2} ×"));
        match (self.limit, multiple) {
            (Limit::AtMost(most), _) => (
                format!("≤ {}", self.unit.show(most)),
                format!("{:.2} of limit", self.measured / most),
                word(self.measured <= most),
            ),
            (Limit::NoLess(least), _) => (
                format!("≥ {}", self.unit.show(least)),
                format!("{:.2} of limit", self.measured / least),
                word(self.measured >= least),
            ),
            (Limit::AtLeast(least), Some(times)) => (format!("≥ {least} ×"), shown, word(times >= least)),
            (Limit::Times(most), Some(times)) => (format!("≤ {most} ×"), shown, word(times <= most)),
            (Limit::Speed(least), Some(times)) => {
                let speed = 1.0 / times;
                (format!("≥ {least} ×"), format!("{speed:.2} ×"), word(speed >= least))
            }
            (Limit::Times(_) | Limit::AtLeast(_) | Limit::Speed(_), None) | (Limit::None, _) => {
                (String::new(), shown, "")
            }
        }
    }
}

/// The whole table as Markdown.
pub(crate) fn render(rows: &[Row]) -> String {
    let mut cells = vec![["figure", "measured", "baseline", "limit", "ratio", ""].map(str::to_owned)];
    for row in rows {
        let (limit, ratio, verdict) = row.judge();
        let baseline = row.baseline.map_or_else(String::new, |value| row.unit.show(value));
        let measured = row.unit.show(row.measured);
        cells.push([row.figure.clone(), measured, baseline, limit, ratio, verdict.to_owned()]);
    }
    let mut widths = [0; 6];
    for line in &cells {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut out = String::new();
    for (at, line) in cells.iter().enumerate() {
        for (cell, width) in line.iter().zip(widths) {
            let _ = write!(out, "| {cell:<width$} ");
        }
        out.push_str("|\n");
        if at == 0 {
            let rule = widths.map(|width| "-".repeat(width + 2)).join("|");
            let _ = writeln!(out, "|{rule}|");
        }
    }
    out
}
