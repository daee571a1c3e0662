//! Which lines are wanted.

use regex::bytes::Regex;

use crate::logs::query::Parsed;
use crate::model::level::Level;
use crate::model::logspec::Stream;
use crate::model::names::{AppName, Slot};
use crate::model::time::WallTime;

/// How many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Limit {
    /// All.
    #[default]
    None,
    /// The last ones of each source.
    Each(usize),
    /// The last ones of all sources together.
    Total(usize),
}

/// Which lines are wanted; all, if nothing is set.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Written then or later. A line that cannot tell is shown where lines have no times at all.
    pub since: Option<WallTime>,
    /// Written earlier than this.
    pub until: Option<WallTime>,
    /// The message matches one of these, if there are any.
    pub grep: Vec<Regex>,
    /// The message matches none of them instead.
    pub invert: bool,
    /// At least this grave. A line that does not say how grave it is, is not.
    pub level: Option<Level>,
    /// Of these apps, in JSON files of several; other files do not tell. All if there are none.
    pub apps: Vec<AppName>,
    /// Of this stream, in JSON files that have both; other files do not tell.
    pub stream: Option<Stream>,
    /// Of these instances, in JSON files of several; other files do not tell.
    pub instances: Vec<Slot>,
    /// How many of those.
    pub limit: Limit,
}

impl Filter {
    /// Written in the time that is asked for. `timed` says that lines of this format carry their time.
    #[must_use]
    pub fn is_in_time(&self, time: Option<WallTime>, timed: bool) -> bool {
        match time {
            Some(time) => self.since.is_none_or(|since| time >= since) && self.until.is_none_or(|until| time < until),
            // Before the first line that has one.
            None => self.since.is_none() || !timed,
        }
    }

    /// Time matters.
    #[must_use]
    pub const fn has_times(&self) -> bool {
        self.since.is_some() || self.until.is_some()
    }

    /// What it says is wanted, whenever that was.
    #[must_use]
    pub fn wants(&self, line: &Parsed<'_>) -> bool {
        if let Some(app) = line.app.as_deref()
            && !self.apps.is_empty()
            && !self.apps.iter().any(|wanted| wanted.as_str() == app)
        {
            return false;
        }
        if self.stream.is_some() && line.stream.is_some() && self.stream != line.stream {
            return false;
        }
        if let Some(instance) = line.instance
            && !self.instances.is_empty()
            && !self.instances.contains(&instance)
        {
            return false;
        }
        if !self.grep.is_empty() && self.grep.iter().any(|grep| grep.is_match(&line.message)) == self.invert {
            return false;
        }
        self.level.is_none_or(|least| line.level() >= Some(least))
    }

    /// What lines say matters.
    pub(super) fn is_choosy(&self) -> bool {
        !self.apps.is_empty()
            || self.stream.is_some()
            || !self.instances.is_empty()
            || !self.grep.is_empty()
            || self.level.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::Filter;
    use crate::logs::query::Parser;
    use crate::model::logspec::LogFormat;

    #[test]
    fn lines_of_other_apps_in_the_same_file_are_not_wanted() {
        let parser = Parser::new(&LogFormat::Json, None);
        let wants = |apps: &[&str], line: &str| {
            let filter = Filter {
                apps: apps.iter().map(|app| app.parse().unwrap()).collect(),
                ..Filter::default()
            };
            assert_eq!(filter.is_choosy(), !apps.is_empty());
            filter.wants(&parser.parse(line.as_bytes()))
        };
        let line = r#"{"time":"2026-11-21T10:00:00Z","app":"a","message":"x"}"#;
        assert!(wants(&[], line) && wants(&["a"], line) && wants(&["b", "a"], line));
        assert!(!wants(&["b"], line));
        // What does not tell is shown.
        assert!(wants(&["b"], "no record"));
    }
}
