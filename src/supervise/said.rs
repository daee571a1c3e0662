//! What a run tells of itself (`sd_notify(3)`): kept with its record, so that the next daemon still shows it.

use serde::{Deserialize, Serialize};

use crate::model::names::RunId;
use crate::supervise::Core;
use crate::supervise::app::App;

/// Longest status that is kept, in bytes.
const LONGEST: usize = 1024;

/// What a run has said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// `STATUS`, cleaned.
    pub status: String,
    /// `ERRNO` or `BUSERROR`: why it fails, in words.
    #[serde(default)]
    pub trouble: String,
    /// It said that it stops.
    #[serde(default)]
    pub stopping: bool,
}

impl Said {
    /// Nothing yet.
    #[must_use]
    pub const fn nothing() -> Self {
        Self {
            status: String::new(),
            trouble: String::new(),
            stopping: false,
        }
    }

    /// For people; `None` if it has said nothing worth showing.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        let stopping = if self.stopping && self.status.is_empty() {
            "says that it stops"
        } else {
            ""
        };
        let parts = [self.status.as_str(), stopping, self.trouble.as_str()];
        let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

/// A text of an app as it may be shown: one line, 1 KiB at most.
#[must_use]
pub fn cleaned(text: &str) -> String {
    let mut clean = String::new();
    for letter in text.trim().chars() {
        if clean.len() + letter.len_utf8() > LONGEST {
            break;
        }
        clean.push(if letter.is_control() { ' ' } else { letter });
    }
    clean.truncate(clean.trim_end().len());
    clean
}

impl Core {
    /// A run has said something.
    pub fn hear(&mut self, run: RunId, change: impl FnOnce(&mut Said)) {
        let Some(id) = self.owner(run).map(|app| app.id) else {
            return;
        };
        self.touch(id, |app, _| {
            if let Some(run) = app.runs.get_mut(&run) {
                change(&mut run.said);
            }
        });
    }

    /// The leader of a run is this process from now on.
    pub fn lead(&mut self, run: RunId, pid: i32) {
        let differs = |app: &App| {
            let known = app.runs.get(&run).and_then(|run| run.pid);
            known.is_some_and(|known| known != pid)
        };
        let Some(id) = self.owner(run).filter(|app| differs(app)).map(|app| app.id) else {
            return;
        };
        self.touch(id, |app, _| {
            if let Some(run) = app.runs.get_mut(&run) {
                run.pid = Some(pid);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::{LONGEST, Said, cleaned};

    #[test]
    fn texts_are_one_line_and_bounded() {
        assert_eq!(cleaned("  42 clients\tand\x1b[31m more \n"), "42 clients and [31m more");
        assert_eq!(cleaned(&"ä".repeat(2_000)).len(), LONGEST);
        assert_eq!(cleaned(""), "");
    }

    #[test]
    fn says_what_there_is_to_say() {
        let mut said = Said::nothing();
        assert_eq!(said.text(), None);
        said.stopping = true;
        assert_eq!(said.text().as_deref(), Some("says that it stops"));
        said.status = "flushing".into();
        said.trouble = "error 2".into();
        assert_eq!(said.text().as_deref(), Some("flushing; error 2"));
    }
}
