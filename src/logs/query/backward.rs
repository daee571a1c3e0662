//! Finds the last lines that match: a plain file is read from its end, block by block; a compressed one as a whole,
//! of which only places are kept.

use std::collections::VecDeque;
use std::io;

use crate::logs::chain::{At, Part};
use crate::logs::query::bisect::line_end;
use crate::logs::query::files::Entry;
use crate::logs::query::index::Index;
use crate::logs::query::lines::Lines;
use crate::logs::query::stream::Judge;
use crate::logs::query::{Filter, Parser, Source, plan};
use crate::model::time::WallTime;

/// Bytes judged at a time.
const BLOCK: u64 = if cfg!(test) { 2 << 10 } else { 128 << 10 };
/// A block is made longer up to this if its first line does not say when it was written.
const LONGEST: u64 = 16 << 20;

/// Where a line is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    /// Bytes of the text before it.
    pub(super) offset: u64,
    /// When it was written, which is perhaps said by a line before it.
    pub(super) time: Option<WallTime>,
}

/// How many of the last `most` matching lines a file has, and where the first of them begins.
pub(super) fn last(
    part: &Part,
    entry: &Entry,
    source: &Source,
    parser: &Parser,
    filter: &Filter,
    most: usize,
) -> io::Result<(usize, Place)> {
    let index = plan::index_of(part, source, parser);
    let index = index.as_deref();
    let (start, end) = plan::bounds(part, entry.end, parser, filter, index)?;
    // Of lines that do not say it, at the beginning.
    let before = entry.before.filter(|_| parser.is_timed());
    if part.gzip {
        let places = judge(plan::lines(part, start, end)?, before, parser, filter, index, most)?.0;
        return Ok((places.len(), places.front().copied().unwrap_or_default()));
    }
    let (mut count, mut first) = (0, Place::default());
    let mut to = end;
    while to > start && count < most {
        let mut length = BLOCK;
        let (from, places) = loop {
            let from = to.saturating_sub(length);
            let from = if from <= start {
                start
            } else {
                line_end(&part.file, from, to)?
            };
            if from == to {
                // One line is longer than the block.
                length = length.saturating_mul(2);
                continue;
            }
            let reader = At {
                file: part.file.try_clone()?,
                offset: from,
            };
            let lines = Lines::new(Box::new(reader), from, to);
            let (places, is_known) = judge(lines, before.filter(|_| from == 0), parser, filter, index, most - count)?;
            if is_known || from == start || !filter.has_times() || !parser.is_timed() || length >= LONGEST {
                break (from, places);
            }
            length = length.saturating_mul(4);
        };
        count += places.len();
        first = places.front().copied().unwrap_or(first);
        to = from;
    }
    Ok((count, first))
}

/// The places of the last `most` lines that match; and whether the first line of all says when it was written.
fn judge(
    mut lines: Lines,
    before: Option<WallTime>,
    parser: &Parser,
    filter: &Filter,
    index: Option<&dyn Index>,
    most: usize,
) -> io::Result<(VecDeque<Place>, bool)> {
    let mut judge = Judge::after(before);
    let mut places = VecDeque::new();
    let mut is_known = None;
    while let Some(line) = lines.next()? {
        let offset = line.offset;
        let is_wanted = judge.is_wanted(line, parser, filter, index);
        is_known.get_or_insert(judge.time.is_some());
        if is_wanted {
            places.push_back(Place {
                offset,
                time: judge.time,
            });
            if places.len() > most {
                places.pop_front();
            }
        }
        if judge.is_past {
            break;
        }
    }
    Ok((places, is_known.unwrap_or(true)))
}
