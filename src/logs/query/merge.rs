//! The lines of several logs as one text.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::logs::chain::Position;
use crate::logs::query::plan::plan;
use crate::logs::query::resume::{self, Resume};
use crate::logs::query::stream::Stream;
use crate::logs::query::{Filter, Limit, Parser, QueryError, Record, Source};
use crate::model::time::WallTime;

/// Gives lines by time, the oldest first. Lines of the same time come in the order of the sources; a line without a
/// time stays behind the one before it.
#[derive(Debug)]
pub struct Query {
    streams: Vec<Stream>,
    /// The next line of each source.
    heads: Vec<Option<Record>>,
    order: BinaryHeap<Reverse<(WallTime, usize)>>,
    /// Lines that are more than were asked for.
    surplus: usize,
    ends: Vec<Option<Position>>,
    begun: bool,
}

impl Query {
    /// Looks where the logs end and where to begin. With `unfinished` false, a line at the end that has no newline
    /// yet is left for a [`Follower`](crate::logs::tail::Follower).
    ///
    /// # Errors
    /// A log is there and cannot be read.
    pub fn open(sources: Vec<Source>, filter: Filter, unfinished: bool) -> Result<Self, QueryError> {
        Self::resume(sources, filter, unfinished, None)
    }

    /// The same, without what an earlier reader was given; how many lines there are to be does not matter then.
    ///
    /// # Errors
    /// A log is there and cannot be read.
    pub fn resume(
        sources: Vec<Source>,
        filter: Filter,
        unfinished: bool,
        resume: Option<&Resume>,
    ) -> Result<Self, QueryError> {
        let filter = Arc::new(match resume {
            Some(_) => Filter {
                limit: Limit::None,
                ..filter
            },
            None => filter,
        });
        let rest = resume.map(|resume| Arc::new(resume.rest(&filter)));
        let most = match filter.limit {
            Limit::None => None,
            Limit::Each(most) | Limit::Total(most) => Some(most),
        };
        let mut query = Self {
            heads: vec![None; sources.len()],
            streams: Vec::with_capacity(sources.len()),
            order: BinaryHeap::with_capacity(sources.len()),
            surplus: 0,
            ends: Vec::with_capacity(sources.len()),
            begun: false,
        };
        let mut count = 0usize;
        for (number, source) in sources.into_iter().enumerate() {
            let parser = Parser::new(&source.format, source.zone.as_deref());
            let mark = resume.and_then(|resume| resume.marks.get(number).copied().flatten());
            let filter = match (&rest, mark) {
                (Some(rest), None) => rest,
                (Some(_), Some(_)) | (None, _) => &filter,
            };
            let plan = match mark {
                Some(mark) => resume::plan(&source, mark, unfinished),
                None => plan(&source, &parser, filter, most, unfinished),
            };
            let plan = plan.map_err(|error| failed(&source.path, error))?;
            count += plan.count;
            query.ends.push(plan.position);
            let stream = Stream::new(number, source, parser, Arc::clone(filter), plan.spans);
            query.streams.push(stream);
        }
        if let Limit::Total(most) = filter.limit {
            query.surplus = count.saturating_sub(most);
        }
        Ok(query)
    }

    /// Where each log ended when this was opened, for a follower to go on from; none where there was no current file.
    #[must_use]
    pub fn ends(&self) -> &[Option<Position>] {
        &self.ends
    }

    fn pull(&mut self, number: usize) -> Result<(), QueryError> {
        let Some(stream) = self.streams.get_mut(number) else {
            return Ok(());
        };
        let next = stream.next().map_err(|error| failed(&stream.source().path, error))?;
        if let Some((time, record)) = next {
            if let Some(head) = self.heads.get_mut(number) {
                *head = Some(record);
            }
            self.order.push(Reverse((time, number)));
        }
        Ok(())
    }

    fn step(&mut self) -> Result<Option<Record>, QueryError> {
        if !std::mem::replace(&mut self.begun, true) {
            for number in 0..self.streams.len() {
                self.pull(number)?;
            }
        }
        let Some(Reverse((_, number))) = self.order.pop() else {
            return Ok(None);
        };
        let record = self.heads.get_mut(number).and_then(Option::take);
        self.pull(number)?;
        Ok(record)
    }
}

impl Iterator for Query {
    type Item = Result<Record, QueryError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let record = self.step().transpose()?;
            if self.surplus == 0 {
                return Some(record);
            }
            self.surplus -= 1;
        }
    }
}

fn failed(path: &Path, source: io::Error) -> QueryError {
    QueryError {
        path: path.to_owned(),
        source,
    }
}
