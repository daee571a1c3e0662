//! The lines of one log that are wanted, one after the other.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use crate::logs::chain::Position;
use crate::logs::query::bisect::later;
use crate::logs::query::index::Index;
use crate::logs::query::lines::Piece;
use crate::logs::query::plan::{Ready, Span};
use crate::logs::query::{Filter, MARGIN, Parser, Record, Source, WINDOW};
use crate::model::time::WallTime;

/// Judges line after line of one text.
#[derive(Debug, Default)]
pub(super) struct Judge {
    /// Of the last line; where it did not say it, of the one before.
    pub(super) time: Option<WallTime>,
    /// Nothing that is wanted comes any more.
    pub(super) is_past: bool,
    /// Bytes written later than asked for.
    later: u64,
}

impl Judge {
    /// Of lines that come after one of this time.
    pub(super) fn after(time: Option<WallTime>) -> Self {
        Self {
            time,
            ..Self::default()
        }
    }

    /// Whether this line is wanted.
    pub(super) fn is_wanted(
        &mut self,
        line: Piece<'_>,
        parser: &Parser,
        filter: &Filter,
        index: Option<&dyn Index>,
    ) -> bool {
        let own = match index {
            Some(index) => index.time_at(line.offset),
            None if line.continues => None,
            None => parser.time(line.bytes),
        };
        self.time = own.or(self.time);
        if let (Some(until), Some(time)) = (filter.until, self.time)
            && time >= until
        {
            self.later += line.bytes.len() as u64 + 1;
            let limit = later(until, MARGIN + parser.ambiguity(until));
            self.is_past = time >= limit || (self.later > WINDOW && parser.ambiguity(until) == 0);
            return false;
        }
        // An index says it roughly.
        let latest = index.and_then(|index| index.latest_at(line.offset));
        let time = match filter.since {
            Some(since) if latest >= Some(since) => self.time.max(Some(since)),
            Some(_) | None => self.time,
        };
        filter.is_in_time(time, parser.is_timed()) && (!filter.is_choosy() || filter.wants(&parser.parse(line.bytes)))
    }
}

/// One log.
pub(super) struct Stream {
    number: usize,
    source: Source,
    parser: Parser,
    filter: Arc<Filter>,
    spans: VecDeque<Span>,
    open: Option<Ready>,
    judge: Judge,
}

impl Stream {
    pub(super) fn new(
        number: usize,
        source: Source,
        parser: Parser,
        filter: Arc<Filter>,
        spans: VecDeque<Span>,
    ) -> Self {
        Self {
            number,
            source,
            parser,
            filter,
            spans,
            open: None,
            judge: Judge::default(),
        }
    }

    /// The file that has the log's lines.
    pub(super) const fn source(&self) -> &Source {
        &self.source
    }

    /// The next line, and the time by which it stands among those of other logs.
    pub(super) fn next(&mut self) -> io::Result<Option<(WallTime, Record)>> {
        loop {
            let ready = match &mut self.open {
                Some(ready) => ready,
                None => {
                    let Some(span) = self.spans.pop_front() else {
                        return Ok(None);
                    };
                    let Some(ready) = span.open(&self.source, &self.parser, &self.filter)? else {
                        continue;
                    };
                    self.judge.is_past = false;
                    self.judge.time = self.judge.time.or(ready.time);
                    self.open.insert(ready)
                }
            };
            let Some(line) = ready.lines.next()? else {
                self.open = None;
                continue;
            };
            let is_wanted = self
                .judge
                .is_wanted(line, &self.parser, &self.filter, ready.index.as_deref());
            if is_wanted {
                let record = Record {
                    source: self.number,
                    time: self.judge.time,
                    level: self.parser.parse(line.bytes).level(),
                    bytes: line.bytes.to_vec(),
                    after: Position {
                        identity: ready.identity,
                        offset: line.end,
                    },
                };
                // What does not tell was written before the last write.
                return Ok(Some((self.judge.time.unwrap_or(ready.modified), record)));
            }
            if self.judge.is_past {
                self.open = None;
            }
        }
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream")
            .field("path", &self.source.path)
            .finish_non_exhaustive()
    }
}
