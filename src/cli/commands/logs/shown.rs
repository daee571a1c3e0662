//! The files that are read, and how their lines come to the screen.

use crate::api::logs::{Chosen, LogSource, LogSources};
use crate::cli::commands::logs::LogsArgs;
use crate::cli::commands::logs::line::Printer;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::follow::{self, Files, history, is_new};
use crate::logs::query::{Filter, Parser, Query};
use crate::logs::tail::{From, Line};
use crate::model::duration::Millis;
use crate::model::ostext::OsText;
use crate::model::time::WallTime;
use crate::os::clock;

/// Whoever looks sees what was found after this long, though more is looked for.
const PATIENCE: Millis = Millis(20);

/// All of one command.
pub(super) struct Shown<'a> {
    args: &'a LogsArgs,
    filter: Filter,
    printer: Printer,
    pub(super) sources: Vec<LogSource>,
    parsers: Vec<Parser>,
    times: Option<OsText>,
    /// Of the last line of each source that came.
    last: Vec<Option<WallTime>>,
}

impl<'a> Shown<'a> {
    pub(super) fn new(args: &'a LogsArgs, filter: Filter, context: &Context) -> Self {
        Self {
            args,
            printer: Printer::new(args, &filter.grep, context.json, context.ui.is_coloured()),
            filter,
            sources: Vec::new(),
            parsers: Vec::new(),
            times: None,
            last: Vec::new(),
        }
    }

    /// Adds the files that are not there yet; returns the number of the first of them.
    pub(super) fn add(&mut self, found: LogSources, context: &mut Context) -> usize {
        let first = self.sources.len();
        self.times = found.times.or_else(|| self.times.take());
        if !self.args.targets.is_empty() {
            let names = found.sources.iter().map(|source| source.app.clone());
            self.filter.apps.extend(names);
            self.filter.apps.sort();
            self.filter.apps.dedup();
        }
        let all = found.sources.clone();
        let chosen = Chosen::of(found.sources, self.filter.stream, &self.filter.instances);
        if first == 0 {
            warn(&chosen, context);
        }
        let found = chosen.read;
        for source in found {
            if self.sources.iter().all(|known| known.path != source.path) {
                self.parsers.push(Parser::new(&source.format, source.zone.as_deref()));
                self.last.push(None);
                self.sources.push(source);
            }
        }
        let shares = |source: &&LogSource| self.sources.iter().skip(first).any(|known| known.path == source.path);
        self.printer.make_room(all.iter().filter(shares));
        first
    }

    /// What there is of the files from this one on, and where it ends.
    pub(super) fn open(&self, first: usize, follows: bool) -> Result<(Query, Files), Failure> {
        let sources = self.sources.get(first..).unwrap_or_default();
        history(sources, self.times.as_ref(), self.filter.clone(), follows)
    }

    /// Shows what there was in the files from this one on.
    pub(super) fn history(&self, first: usize, query: Query, context: &mut Context) -> Result<(), Failure> {
        let mut before = None;
        for record in query {
            let record = record.map_err(|error| follow::unreadable(&error))?;
            let number = first + record.source;
            let (Some(source), Some(parser)) = (self.sources.get(number), self.parsers.get(number)) else {
                continue;
            };
            let parsed = parser.parse(&record.bytes);
            let ui = &mut context.ui;
            self.printer.print(source, &record.bytes, &parsed, record.time, ui)?;
            let now = clock::monotonic();
            if before.is_none_or(|before| now.since(before) >= PATIENCE) {
                ui.flush()?;
            }
            before = Some(now);
        }
        context.ui.flush()
    }

    /// Shows lines that came together, by time; those that do not say it have the time they came at.
    pub(super) fn lines(&mut self, lines: &[Line], context: &mut Context) -> Result<(), Failure> {
        context.ui.check_reader()?;
        let now = clock::wall();
        let mut parsed = Vec::with_capacity(lines.len());
        let mut latest = vec![WallTime(i64::MIN); self.sources.len()];
        for line in lines {
            let (Some(parser), Some(last), Some(latest)) = (
                self.parsers.get(line.source),
                self.last.get_mut(line.source),
                latest.get_mut(line.source),
            ) else {
                continue;
            };
            let known = parser.parse(&line.bytes);
            let time = if parser.is_timed() {
                known.time.or(*last)
            } else {
                Some(now)
            };
            if !line.notice {
                *last = time;
            }
            // The lines of one file stay in order.
            *latest = time.map_or(*latest, |time| time.max(*latest));
            let is_wanted = self.filter.is_in_time(time, parser.is_timed()) && self.filter.wants(&known);
            if line.notice || is_wanted {
                parsed.push((*latest, line, known, time));
            }
        }
        parsed.sort_by_key(|(key, ..)| *key);
        for (_, line, known, time) in &parsed {
            let Some(source) = self.sources.get(line.source) else {
                continue;
            };
            if line.notice {
                self.printer.notice(source, &line.bytes, &mut context.ui)?;
            } else {
                self.printer.print(source, &line.bytes, known, *time, &mut context.ui)?;
            }
        }
        context.ui.flush()
    }

    /// Adds files that came while others were followed since `began`: shows what they had before, and returns from
    /// where they are followed.
    pub(super) fn join(&mut self, found: LogSources, began: WallTime, context: &mut Context) -> Result<Files, Failure> {
        let first = self.add(found, context);
        let mut files = Vec::new();
        for number in first..self.sources.len() {
            let Some(source) = self.sources.get(number) else {
                continue;
            };
            if is_new(source, began) {
                files.push((source.path.as_path().to_owned(), From::Beginning));
                continue;
            }
            let one = std::slice::from_ref(source);
            let (query, from) = history(one, self.times.as_ref(), self.filter.clone(), true)?;
            files.extend(from);
            self.history(number, query, context)?;
        }
        Ok(files)
    }

    /// Nothing that comes from now on is wanted.
    pub(super) fn is_over(&self) -> bool {
        self.filter.until.is_some_and(|until| clock::wall() >= until)
    }
}

/// Says which files do not tell what is asked for.
fn warn(chosen: &Chosen, context: &mut Context) {
    for source in &chosen.left_out {
        context.ui.warning(&format!(
            "{} is left out: all instances of {} write to it, and its lines do not say which it was",
            source.path.to_text(),
            source.app
        ));
    }
    for source in &chosen.both {
        context.ui.warning(&format!(
            "{} is shown whole: both streams of {} go to it, and its lines do not say which it was",
            source.path.to_text(),
            source.app
        ));
    }
}
