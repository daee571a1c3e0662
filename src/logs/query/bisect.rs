//! Finds a point in time in a plain file by halves.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use memchr::{memchr, memrchr};

use crate::logs::chain::At;
use crate::logs::query::lines::Lines;
use crate::logs::query::{Filter, MARGIN, Parser, WINDOW};
use crate::model::time::WallTime;

/// What is not halved any more.
const NEAR: u64 = if cfg!(test) { 1 << 10 } else { 64 << 10 };
/// Bytes read at a time to find the end of a line.
const STEP: usize = 8 << 10;

/// The bytes from and up to which a file of `end` bytes has to be read for what was written in the time of the filter;
/// both are ends of lines.
pub(super) fn range(file: &File, end: u64, parser: &Parser, filter: &Filter) -> io::Result<(u64, u64)> {
    let mut found = (0, end);
    if let Some(since) = filter.since {
        let since = earlier(since, parser.ambiguity(since));
        let (exact, _) = around(file, end, parser, since)?;
        let (with_margin, _) = around(file, end, parser, earlier(since, MARGIN))?;
        let window = line_end(file, exact.saturating_sub(WINDOW), end)?;
        found.0 = with_margin.max(if exact > WINDOW { window.min(exact) } else { 0 });
    }
    if let Some(until) = filter.until {
        let until = later(until, parser.ambiguity(until));
        let (_, exact) = around(file, end, parser, until)?;
        let (_, with_margin) = around(file, end, parser, later(until, MARGIN))?;
        let line = line_end(file, with_margin.min(exact.saturating_add(WINDOW)), end)?;
        // Lines that do not say it belong to the one before them.
        found.1 = first_time(file, line, end, parser)?.map_or(end, |(at, _)| at);
    }
    Ok((found.0.min(found.1), found.1))
}

pub(super) fn earlier(time: WallTime, by: i64) -> WallTime {
    WallTime(time.0.saturating_sub(by))
}

pub(super) fn later(time: WallTime, by: i64) -> WallTime {
    WallTime(time.0.saturating_add(by))
}

/// Two places close to each other: what is before the first was written before `time`, what is behind the second
/// was not. The first is the beginning of a line.
fn around(file: &File, end: u64, parser: &Parser, time: WallTime) -> io::Result<(u64, u64)> {
    let (mut low, mut high) = (0, end);
    while high - low > NEAR {
        let middle = low + (high - low) / 2;
        match first_time(file, line_end(file, middle, high)?, high, parser)? {
            Some((at, found)) if found < time => low = at,
            // Nothing with a time there is: look before it.
            Some(_) | None => high = middle,
        }
    }
    Ok((low, high))
}

/// The first line from this one on that says when it was written.
fn first_time(file: &File, from: u64, end: u64, parser: &Parser) -> io::Result<Option<(u64, WallTime)>> {
    let reader = At {
        file: file.try_clone()?,
        offset: from,
    };
    let mut lines = Lines::new(Box::new(reader), from, end);
    while let Some(line) = lines.next()? {
        if !line.continues
            && let Some(time) = parser.time(line.bytes)
        {
            return Ok(Some((line.offset, time)));
        }
    }
    Ok(None)
}

/// The first end of a line at or behind this byte.
pub(super) fn line_end(file: &File, from: u64, end: u64) -> io::Result<u64> {
    let mut block = [0; STEP];
    let mut at = from;
    while at < end {
        let count = file.read_at(&mut block, at)?;
        let read = block.get(..count).unwrap_or_default();
        if let Some(newline) = memchr(b'\n', read) {
            return Ok((at + newline as u64 + 1).min(end));
        }
        if count == 0 {
            break;
        }
        at += count as u64;
    }
    Ok(end)
}

/// The beginning of the line that has this byte.
pub(super) fn line_start(file: &File, of: u64) -> io::Result<u64> {
    let mut block = [0; STEP];
    let mut at = of;
    while at > 0 {
        let from = at.saturating_sub(STEP as u64);
        let part = block
            .get_mut(..usize::try_from(at - from).unwrap_or(STEP))
            .unwrap_or_default();
        file.read_exact_at(part, from)?;
        if let Some(newline) = memrchr(b'\n', part) {
            return Ok(from + newline as u64 + 1);
        }
        at = from;
    }
    Ok(0)
}
