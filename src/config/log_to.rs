//! `log_to` and `syslog_facility`.

use crate::config::diagnostic::{Diagnostic, did_you_mean};
use crate::config::fields::Fields;
use crate::config::tables::FACILITIES;
use crate::model::logspec::{Facility, LogTarget};

/// Reads `log_to`; empty if it is not there: the files.
pub(super) fn targets(fields: &Fields<'_>) -> Vec<LogTarget> {
    let key = "log_to";
    let Some(entry) = fields.get(key) else {
        return Vec::new();
    };
    let Some(texts) = fields.reader.texts(key, &entry.node) else {
        return Vec::new();
    };
    let mut targets = Vec::new();
    for (text, span) in &texts {
        match LogTarget::ALL.into_iter().find(|target| target.as_str() == *text) {
            Some(target) if targets.contains(&target) => {
                fields.reader.bad(key, span, format!("`log_to` has {text:?} twice"));
            }
            Some(target) => targets.push(target),
            None => {
                let names = LogTarget::ALL.map(LogTarget::as_str);
                let all = names.map(|name| format!("\"{name}\"")).join(", ");
                let unknown = format!("{text:?} is no target of logs");
                let problem = Diagnostic::error((*span).clone(), key, unknown);
                fields.reader.sink.push(match did_you_mean(text, names) {
                    near @ Some(_) => problem.hints(near),
                    None => problem.hint(format!("there are {all}; `disable_logs = true` keeps nothing")),
                });
            }
        }
    }
    if texts.is_empty() {
        let problem = Diagnostic::error(entry.node.span.clone(), key, "`log_to` is empty");
        let hint = "name a target, or use `disable_logs = true` to keep nothing";
        fields.reader.sink.push(problem.hint(hint));
    }
    if fields.boolean("disable_logs") == Some(true) {
        let message = "`disable_logs` and `log_to` contradict each other";
        fields.contradiction("disable_logs", key, message, "remove one of them");
    }
    if !targets.is_empty() && !targets.contains(&LogTarget::Files) {
        for file in ["out_file", "error_file", "log_file"] {
            let message = format!("`log_to` without \"files\" and `{file}` contradict each other");
            fields.contradiction(key, file, &message, "add \"files\" to `log_to`, or remove the file");
        }
    }
    // The default, written out.
    if targets == [LogTarget::Files] {
        targets.clear();
    }
    targets
}

/// Reads `syslog_facility`.
pub(super) fn facility(fields: &Fields<'_>, targets: &[LogTarget]) -> Facility {
    let key = "syslog_facility";
    let Some(name) = fields.choice(key, FACILITIES) else {
        return Facility::default();
    };
    if let (false, Some(entry)) = (targets.contains(&LogTarget::Syslog), fields.get(key)) {
        let message = "`syslog_facility` has no effect without \"syslog\" in `log_to`";
        let warning = Diagnostic::warning(entry.key_span.clone(), key, message);
        fields.reader.sink.push(warning);
    }
    Facility::named(name).unwrap_or_default()
}
