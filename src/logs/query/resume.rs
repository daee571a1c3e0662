//! Goes on where an earlier query, or what followed it, was broken off.

use std::collections::VecDeque;
use std::io;

use crate::logs::chain::Mark;
use crate::logs::query::backward::Place;
use crate::logs::query::files;
use crate::logs::query::plan::{Plan, Span};
use crate::logs::query::{Filter, Limit, Source};
use crate::model::time::WallTime;

/// How far an earlier reader got.
#[derive(Clone, Debug, Default)]
pub struct Resume {
    /// What it had read of each source; none where it had given no line.
    pub marks: Vec<Option<Mark>>,
    /// Of those others, it had given all lines before this.
    pub floor: Option<WallTime>,
}

impl Resume {
    /// What is left of a filter for a source without a mark: lines of a certain number were counted by the earlier
    /// reader.
    pub(super) fn rest(&self, filter: &Filter) -> Filter {
        Filter {
            since: filter.since.max(self.floor),
            limit: Limit::None,
            ..filter.clone()
        }
    }
}

/// Plans for all that follows the mark. If its file is gone, all that is there follows it.
pub(super) fn plan(source: &Source, mark: Mark, unfinished: bool) -> io::Result<Plan> {
    let (all, position) = files::list(&source.path, unfinished)?;
    let mut spans = VecDeque::new();
    for entry in all.into_iter().rev() {
        let Some(part) = entry.open(&source.path)? else {
            continue;
        };
        if part.identity.mark() != mark.file {
            spans.push_front(Span { entry, start: None });
            continue;
        }
        // What has become shorter was emptied.
        let is_there = part.gzip || part.file.metadata()?.len() >= mark.offset;
        let offset = if is_there { mark.offset } else { 0 };
        let start = Some(Place { offset, time: None });
        spans.push_front(Span { entry, start });
        break;
    }
    Ok(Plan {
        spans,
        count: 0,
        position,
    })
}
