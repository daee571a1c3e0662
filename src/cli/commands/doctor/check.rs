//! One finding, and all of them as they are shown.

use serde::Serialize;

use crate::cli::ui::{BAD, BOLD, DIM, HINT};

/// What is thought of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// In order.
    Ok,
    /// Worth knowing; nothing has to be done.
    Note,
    /// Somebody should do something.
    Attention,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    /// What was looked at; the same word in every version.
    pub(super) check: &'static str,
    /// What is thought of it.
    pub(super) verdict: Verdict,
    /// What was found.
    pub(super) message: String,
    /// What to do, where there is something to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<String>,
}

impl Check {
    pub(super) fn ok(check: &'static str, message: impl Into<String>) -> Self {
        Self {
            check,
            verdict: Verdict::Ok,
            message: message.into(),
            next: None,
        }
    }

    pub(super) fn note(check: &'static str, message: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Note,
            ..Self::ok(check, message)
        }
    }

    pub(super) fn attention(check: &'static str, message: impl Into<String>, next: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Attention,
            next: Some(next.into()),
            ..Self::ok(check, message)
        }
    }

    /// What could be done about it.
    pub(super) fn next(self, next: impl Into<String>) -> Self {
        Self {
            next: Some(next.into()),
            ..self
        }
    }
}

/// `doctor --json`.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Nothing needs attention.
    pub(super) ok: bool,
    /// In a fixed order.
    pub(super) checks: Vec<Check>,
}

impl Report {
    pub(super) fn of(checks: Vec<Check>) -> Self {
        Self {
            ok: checks.iter().all(|check| check.verdict != Verdict::Attention),
            checks,
        }
    }

    /// The table and its sum.
    pub(super) fn lines(&self) -> Vec<String> {
        let width = self.checks.iter().map(|check| check.check.len()).max().unwrap_or(0);
        let mut lines = Vec::new();
        for check in &self.checks {
            let (style, word) = match check.verdict {
                Verdict::Ok => (anstyle::AnsiColor::Green.on_default(), "ok"),
                Verdict::Note => (DIM, "note"),
                Verdict::Attention => (BAD, "attention"),
            };
            let (name, message) = (check.check, &check.message);
            lines.push(format!(
                "{style}{word:<9}{style:#}  {BOLD}{name:<width$}{BOLD:#}  {message}"
            ));
            if let Some(next) = &check.next {
                lines.push(format!("{:<9}  {:<width$}  {HINT}→ {next}{HINT:#}", "", ""));
            }
        }
        let count = |verdict| self.checks.iter().filter(|check| check.verdict == verdict).count();
        lines.push(match count(Verdict::Attention) {
            0 => format!("\n{} checks, nothing needs attention", self.checks.len()),
            1 => format!("\n{} checks, 1 needs attention", self.checks.len()),
            some => format!("\n{} checks, {some} need attention", self.checks.len()),
        });
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::{Check, Report};

    #[test]
    fn attention_alone_makes_it_fail() {
        let fine = Report::of(vec![Check::ok("a", "x"), Check::note("b", "y").next("do")]);
        assert!(fine.ok);
        assert!(fine.lines().last().unwrap().contains("nothing needs attention"));
        let bad = Report::of(vec![Check::ok("a", "x"), Check::attention("long", "y", "do this")]);
        assert!(!bad.ok);
        let text = bad.lines().join("\n");
        assert!(
            text.contains("→ do this") && text.contains("1 needs attention"),
            "{text}"
        );
        let json = serde_json::to_value(&bad).unwrap();
        assert_eq!(json["checks"][1]["verdict"], "attention");
        assert_eq!(json["checks"][0].get("next"), None);
    }
}
