//! Where to begin: which files of a log are read, and from which byte on.

use std::collections::VecDeque;
use std::io;

use crate::logs::chain::{At, Identity, Part, Position};
use crate::logs::query::backward::Place;
use crate::logs::query::bisect::{earlier, later, line_end, line_start, range};
use crate::logs::query::files::{self, Entry};
use crate::logs::query::index::{self, Index};
use crate::logs::query::lines::Lines;
use crate::logs::query::{Filter, Parser, Source, backward};
use crate::model::time::WallTime;

/// How exact a time index is, in milliseconds.
const GRAIN: i64 = 1_000;

/// What may have been written between two entries of an index, in bytes.
const SLACK: u64 = 64 << 10;

/// What is read of one file.
#[derive(Debug)]
pub(super) struct Span {
    pub(super) entry: Entry,
    /// Where to begin, if that was found out already.
    pub(super) start: Option<Place>,
}

/// What is read of one log.
#[derive(Debug)]
pub(super) struct Plan {
    /// Oldest first.
    pub(super) spans: VecDeque<Span>,
    /// Lines there are in them, if they were counted.
    pub(super) count: usize,
    /// Where the log ended.
    pub(super) position: Option<Position>,
}

/// An open file, ready to be read.
pub(super) struct Ready {
    pub(super) lines: Lines,
    pub(super) index: Option<Box<dyn Index>>,
    /// Which file it is.
    pub(super) identity: Identity,
    /// Of the line before the first.
    pub(super) time: Option<WallTime>,
    /// The last write to the file.
    pub(super) modified: WallTime,
}

/// Plans for all lines that are in the time of the filter, or for the last `most` that match.
pub(super) fn plan(
    source: &Source,
    parser: &Parser,
    filter: &Filter,
    most: Option<usize>,
    unfinished: bool,
) -> io::Result<Plan> {
    let (all, position) = files::list(&source.path, unfinished)?;
    let mut plan = Plan {
        spans: VecDeque::new(),
        count: 0,
        position,
    };
    if most == Some(0) {
        return Ok(plan);
    }
    let entries = files::chosen(all, source, parser, filter);
    let Some(most) = most else {
        plan.spans = entries.into_iter().map(|entry| Span { entry, start: None }).collect();
        return Ok(plan);
    };
    for entry in entries.into_iter().rev() {
        if plan.count >= most {
            break;
        }
        let Some(part) = entry.open(&source.path)? else {
            continue;
        };
        let (count, start) = backward::last(&part, &entry, source, parser, filter, most - plan.count)?;
        plan.count += count;
        if count > 0 {
            plan.spans.push_front(Span {
                entry,
                start: Some(start),
            });
        }
    }
    Ok(plan)
}

impl Span {
    /// Opens it; none if it was removed meanwhile.
    pub(super) fn open(&self, source: &Source, parser: &Parser, filter: &Filter) -> io::Result<Option<Ready>> {
        let Some(part) = self.entry.open(&source.path)? else {
            return Ok(None);
        };
        let index = index_of(&part, source, parser);
        let (start, end) = match self.start {
            Some(place) => (place.offset, self.entry.end),
            None => bounds(&part, self.entry.end, parser, filter, index.as_deref())?,
        };
        Ok(Some(Ready {
            lines: lines(&part, start, end)?,
            index,
            identity: part.identity,
            time: match self.start {
                Some(place) => place.time,
                None => self.entry.before.filter(|_| parser.is_timed()),
            },
            modified: self.entry.modified,
        }))
    }
}

pub(super) fn index_of(part: &Part, source: &Source, parser: &Parser) -> Option<Box<dyn Index>> {
    let folder = source.times.as_ref().filter(|_| !parser.is_timed())?;
    index::open(folder, &part.file)
}

/// The bytes of a file in which lines of the time of the filter can be.
pub(super) fn bounds(
    part: &Part,
    end: u64,
    parser: &Parser,
    filter: &Filter,
    index: Option<&dyn Index>,
) -> io::Result<(u64, u64)> {
    let length = if part.gzip {
        end
    } else {
        end.min(part.file.metadata()?.len())
    };
    if !filter.has_times() {
        return Ok((0, length));
    }
    match index {
        Some(index) => {
            let since = filter.since.map(|since| index.offset_at(earlier(since, GRAIN)));
            let start = since.unwrap_or(0).min(length);
            let start = if part.gzip {
                start
            } else {
                line_start(&part.file, start)?
            };
            let until = filter.until.map(|until| index.offset_at(later(until, GRAIN)));
            match until.filter(|until| *until > 0 && !part.gzip) {
                Some(until) => Ok((start, line_end(&part.file, until.saturating_add(SLACK), length)?)),
                None => Ok((start, length)),
            }
        }
        None if part.gzip || !parser.is_timed() => Ok((0, length)),
        None => range(&part.file, length, parser, filter),
    }
}

/// The lines of a file from this byte of its text on.
pub(super) fn lines(part: &Part, start: u64, end: u64) -> io::Result<Lines> {
    let text: Box<dyn io::Read + Send> = if part.gzip {
        let mut text = part.text()?;
        skip(&mut text, start)?;
        text
    } else {
        Box::new(At {
            file: part.file.try_clone()?,
            offset: start,
        })
    };
    Ok(Lines::new(text, start, end))
}

fn skip(text: &mut dyn io::Read, bytes: u64) -> io::Result<()> {
    match io::copy(&mut io::Read::take(text, bytes), &mut io::sink()) {
        Err(error) if !super::lines::is_damage(&error) => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}
