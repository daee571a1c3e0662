//! What a request asks for.

use regex::bytes::{Regex, RegexBuilder};

use crate::daemon::http::read::Query;
use crate::logs::query::{Filter, Limit, Since};
use crate::model::level::Level;
use crate::model::logspec::Stream;
use crate::model::names::Slot;
use crate::model::outcome::{ErrorBody, ErrorKind};
use crate::model::target::Target;
use crate::model::time::WallTime;
use crate::os::clock;

/// Lines of the past, unless a time or another number is asked for.
const LINES: usize = 100;
/// A pattern may need so much memory.
const PATTERN: usize = 1 << 20;

/// Which lines of which logs.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) targets: Vec<Target>,
    pub(super) filter: Filter,
    pub(super) follow: bool,
}

impl Wanted {
    pub(super) fn read(query: &Query) -> Result<Self, Box<ErrorBody>> {
        let now = clock::wall();
        let time = |name: &str| {
            let text = query.all(name).next();
            text.map(|text| time(name, text, now)).transpose()
        };
        let (since, until) = (time("since")?, time("until")?);
        let lines = query.value::<usize>("lines")?;
        let limit = match lines {
            Some(lines) => Limit::Total(lines),
            None if since.is_some() || until.is_some() => Limit::None,
            None => Limit::Total(LINES),
        };
        let filter = Filter {
            since,
            until,
            grep: query.all("grep").map(pattern).collect::<Result<_, _>>()?,
            invert: flag(query, "invert")?,
            // Once it is known which they are.
            apps: Vec::new(),
            level: query.all("level").next().map(level).transpose()?,
            stream: query.all("stream").next().map(stream).transpose()?,
            instances: query.all("instance").map(slot).collect::<Result<_, _>>()?,
            limit,
        };
        if filter.invert && filter.grep.is_empty() {
            return Err(bad("invert", "says what to do with grep, which is missing"));
        }
        if since.zip(until).is_some_and(|(since, until)| since >= until) {
            return Err(bad(
                "until",
                "is not later than since, so there is nothing between the two",
            ));
        }
        Ok(Self {
            targets: query.targets()?,
            filter,
            follow: flag(query, "follow")?,
        })
    }
}

fn bad(name: &str, why: impl std::fmt::Display) -> Box<ErrorBody> {
    Box::new(ErrorBody::new(ErrorKind::BadRequest, format!("{name}: {why}")))
}

fn flag(query: &Query, name: &str) -> Result<bool, Box<ErrorBody>> {
    match query.all(name).next() {
        None | Some("false" | "0") => Ok(false),
        Some("true" | "1" | "") => Ok(true),
        Some(other) => Err(bad(name, format!("{other:?} is neither true nor false"))),
    }
}

fn pattern(text: &str) -> Result<Regex, Box<ErrorBody>> {
    let built = RegexBuilder::new(text).size_limit(PATTERN).build();
    built.map_err(|error| bad("grep", error))
}

fn level(text: &str) -> Result<Level, Box<ErrorBody>> {
    Level::of_word(text).ok_or_else(|| {
        let names = Level::ALL.map(Level::as_str).join(", ");
        bad("level", format!("{text:?} is none of {names}"))
    })
}

fn stream(text: &str) -> Result<Stream, Box<ErrorBody>> {
    let known = [Stream::Out, Stream::Err]
        .into_iter()
        .find(|known| known.as_str() == text);
    known.ok_or_else(|| bad("stream", format!("{text:?} is neither out nor err")))
}

fn slot(text: &str) -> Result<Slot, Box<ErrorBody>> {
    text.parse()
        .map_err(|_| bad("instance", format!("{text:?} is no number of an instance")))
}

/// Milliseconds since 1970, or what commands understand.
fn time(name: &str, text: &str, now: WallTime) -> Result<WallTime, Box<ErrorBody>> {
    if let Ok(millis) = text.parse() {
        return Ok(WallTime(millis));
    }
    // A plus sign that was not escaped came as a space.
    let plus = || text.replace(' ', "+").parse::<Since>().ok();
    match text.parse::<Since>().or_else(|error| plus().ok_or(error)) {
        Ok(since) => Ok(since.from(now)),
        Err(error) => Err(bad(name, format!("{error}, or milliseconds since 1970"))),
    }
}

#[cfg(test)]
mod tests {
    use super::Wanted;
    use crate::daemon::http::read::Query;
    use crate::logs::query::Limit;
    use crate::model::level::Level;
    use crate::model::time::WallTime;
    use crate::os::clock;

    fn read(query: &str) -> Result<Wanted, String> {
        Wanted::read(&Query::new(Some(query.into()))).map_err(|error| error.message)
    }

    #[test]
    fn times_are_told_as_commands_are_told_them() {
        let since = |text: &str| read(&format!("since={text}")).unwrap().filter.since.unwrap();
        assert_eq!(since("1795000000000"), WallTime(1_795_000_000_000));
        for text in [
            "2026-11-18T14:26:40%2B03:00",
            "2026-11-18T14:26:40+03:00",
            "2026-11-18T11:26:40Z",
        ] {
            assert_eq!(since(text), WallTime(1_795_001_200_000), "{text}");
        }
        let now = clock::wall();
        let ago = since("15m");
        assert!((now.0 - 900_000..=clock::wall().0 - 900_000).contains(&ago.0));
        let today = since("14:03").0 - since("14:02:59").0;
        assert_eq!((today, (since("14:03").0 - now.0).abs() < 90_000_000), (1000, true));
        assert_eq!(since("2026-11-18"), since("2026-11-18%2000:00"));
        assert!((since("2026-11-18%2011:26").0 - 1_795_001_160_000).abs() <= 86_400_000);
    }

    #[test]
    fn what_makes_no_sense_names_its_parameter() {
        for (query, name) in [
            ("since=yesterdayish", "since: "),
            ("until=", "until: "),
            ("since=5m&until=10m", "until: "),
            ("grep=(", "grep: "),
            ("invert=true", "invert: "),
            ("level=loud", "level: "),
            ("stream=both", "stream: "),
            ("instance=-1", "instance: "),
            ("follow=maybe", "follow: "),
            ("lines=some", "lines=some"),
        ] {
            let error = read(query).unwrap_err();
            assert!(error.starts_with(name), "{query}: {error}");
        }
    }

    #[test]
    fn all_of_the_past_is_meant_only_with_a_time() {
        assert_eq!(read("").unwrap().filter.limit, Limit::Total(100));
        assert_eq!(read("lines=3&since=1h").unwrap().filter.limit, Limit::Total(3));
        let wanted = read("since=1h&level=WARNING&follow&grep=a&grep=b&invert=1").unwrap();
        assert_eq!(
            (wanted.filter.limit, wanted.filter.level),
            (Limit::None, Some(Level::Warn))
        );
        assert!(wanted.follow && wanted.filter.invert && wanted.filter.grep.len() == 2);
    }
}
