//! Which lines are asked for, as typed.

use std::str::FromStr;

use regex::bytes::{Regex, RegexBuilder};

use crate::cli::commands::logs::LogsArgs;
use crate::cli::failure::Failure;
use crate::logs::query::{Filter, Limit};
use crate::model::level::Level;
use crate::model::logspec::Stream;
use crate::model::time::WallTime;

/// Lines of each file, if neither a number nor a time is given.
const LINES: usize = 15;

/// `--lines`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines {
    /// All of them.
    All,
    /// The last ones.
    Last(usize),
}

impl FromStr for Lines {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "all" {
            return Ok(Self::All);
        }
        let number = text.parse().map(Self::Last);
        number.map_err(|_| format!("{text:?} is no number of lines; write it like 100, or all"))
    }
}

/// `--level`.
pub(super) fn level(text: &str) -> Result<Level, String> {
    Level::of_word(text).ok_or_else(|| {
        let all: Vec<_> = Level::ALL.iter().map(|level| level.as_str()).collect();
        format!("{text:?} is no level; there are {}", all.join(", "))
    })
}

/// The filter that was typed, if it is `now`.
pub(super) fn filter(args: &LogsArgs, now: WallTime) -> Result<Filter, Failure> {
    let (since, until) = (args.since.map(|at| at.from(now)), args.until.map(|at| at.from(now)));
    if let (Some(since), Some(until)) = (since, until)
        && since >= until
    {
        return Err(Failure::usage(
            "nothing is between --since and --until: the one is not before the other",
        ));
    }
    let limit = match args.lines {
        Some(Lines::All) => Limit::None,
        Some(Lines::Last(count)) => Limit::Each(count),
        None if since.is_some() || until.is_some() => Limit::None,
        None => Limit::Each(LINES),
    };
    Ok(Filter {
        since,
        until,
        grep: args
            .grep
            .iter()
            .map(|text| grep(text, args.ignore_case))
            .collect::<Result<_, _>>()?,
        invert: args.invert,
        level: args.level,
        // Once it is known which they are.
        apps: Vec::new(),
        stream: stream(args),
        instances: args.instance.clone(),
        limit,
    })
}

fn grep(text: &str, ignore_case: bool) -> Result<Regex, Failure> {
    let built = RegexBuilder::new(text).case_insensitive(ignore_case).build();
    built.map_err(|error| {
        let error = error.to_string();
        // The last line of several says what is wrong.
        let why = error.lines().last().unwrap_or_default();
        let why = why.strip_prefix("error: ").unwrap_or(why);
        Failure::usage(format!("--grep {text:?} is no regular expression: {why}"))
            .hint("a backslash before a character takes its meaning away: \\[")
    })
}

const fn stream(args: &LogsArgs) -> Option<Stream> {
    match (args.out, args.err) {
        (true, _) => Some(Stream::Out),
        (false, true) => Some(Stream::Err),
        (false, false) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Lines, filter, level};
    use crate::cli::commands::logs::LogsArgs;
    use crate::logs::query::Limit;
    use crate::model::level::Level;
    use crate::model::time::WallTime;
    use clap::Parser;

    #[derive(Parser)]
    struct Typed {
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        args: LogsArgs,
    }

    fn typed(words: &[&str]) -> LogsArgs {
        let typed = Typed::try_parse_from([&["logs"], words].concat()).unwrap();
        assert!(!typed.json);
        typed.args
    }

    #[test]
    fn nonsense_is_told() {
        let now = WallTime(1_000_000_000_000);
        let message = |words: &[&str]| filter(&typed(words), now).unwrap_err().message;
        assert!(message(&["--grep", "a(b"]).contains("unclosed group"));
        assert!(message(&["--since", "1m", "--until", "2m"]).contains("between"));
        assert!(level("loud").unwrap_err().contains("trace, debug"));
        assert_eq!(level("WARNING"), Ok(Level::Warn));
        assert!("many".parse::<Lines>().is_err());
        let limit = |words: &[&str]| filter(&typed(words), now).unwrap().limit;
        assert_eq!(limit(&[]), Limit::Each(15));
        assert_eq!(limit(&["--since", "1m"]), Limit::None);
        assert_eq!(limit(&["--since", "1m", "-n", "3"]), Limit::Each(3));
        assert_eq!(limit(&["--lines", "all"]), Limit::None);
    }
}
