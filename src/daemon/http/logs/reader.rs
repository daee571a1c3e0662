//! The thread of one stream: reads, chooses, encodes, and waits for the client.

use std::path::PathBuf;
use std::time::Duration;

use axum::body::Bytes;
use tokio::sync::broadcast::error::TryRecvError;
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::api::logs::{Chosen, LogLine, LogSource, LogSources};
use crate::daemon::http::logs::encode::{Form, line, notice};
use crate::daemon::http::logs::resume::{self, Had};
use crate::daemon::http::logs::wanted::Wanted;
use crate::daemon::mail::Mail;
use crate::logs::chain::{Mark, Position};
use crate::logs::query::{Parser, Query, Resume, Source};
use crate::logs::tail::{Follower, From, Line};
use crate::model::duration::Millis;
use crate::model::event::{Event, EventKind};
use crate::model::outcome::{ErrorBody, ErrorKind};
use crate::model::time::{Moment, WallTime};
use crate::os::clock;

/// What is gathered before the client gets it.
const BLOCK: usize = 32 << 10;
/// Unless it would wait for longer.
const GATHERED: Millis = Millis(5);
/// How often it is looked whether the client is still there, and whether new logs are.
const LOOK: Duration = Duration::from_secs(1);
/// A client hears something at least so often.
const SILENCE: Millis = Millis(15_000);

/// The client has gone away.
struct Gone;

/// One file, and how its lines are read.
struct Log {
    source: LogSource,
    parser: Parser,
    /// What the client has of it, as a part of an id.
    had: String,
}

impl Log {
    /// The client has everything before this.
    fn has(&mut self, mark: Option<Mark>) {
        if let Some(mark) = mark {
            self.had = resume::part(self.source.path.as_path(), mark);
        }
    }
}

/// See the module.
pub(super) struct Reader {
    wanted: Wanted,
    form: Form,
    mail: Mail,
    news: broadcast::Receiver<Event>,
    out: mpsc::Sender<std::io::Result<Bytes>>,
    block: Vec<u8>,
    sent: Moment,
    logs: Vec<Log>,
    /// The client has what was written earlier to logs of which it has nothing else.
    floor: Option<WallTime>,
}

type Opened = oneshot::Sender<Result<(), Box<ErrorBody>>>;

impl Reader {
    pub(super) fn new(
        wanted: Wanted,
        form: Form,
        mail: Mail,
        news: broadcast::Receiver<Event>,
        out: mpsc::Sender<std::io::Result<Bytes>>,
    ) -> Self {
        Self {
            wanted,
            form,
            mail,
            news,
            out,
            block: Vec::new(),
            sent: Moment(0),
            logs: Vec::new(),
            floor: None,
        }
    }

    /// Says over `opened` whether the logs can be read, then sends their lines until there are no more, or until the
    /// client goes away.
    pub(super) fn run(mut self, found: LogSources, had: Option<&Had>, opened: Opened) {
        // Of this thread only.
        let _niced = rustix::process::setpriority_process(None, 10);
        let times = found.times.clone();
        let sources = self.add(found, &times);
        let began = clock::wall();
        let mark = |log: &Log| had?.mark(log.source.path.as_path());
        let marks: Vec<Option<Mark>> = self.logs.iter().map(mark).collect();
        for (log, mark) in self.logs.iter_mut().zip(&marks) {
            log.has(*mark);
        }
        self.floor = had.and_then(|had| had.floor);
        let resume = had.map(|_| Resume {
            marks: marks.clone(),
            floor: self.floor,
        });
        let filter = self.wanted.filter.clone();
        let query = Query::resume(sources, filter, !self.wanted.follow, resume.as_ref());
        let query = match query {
            Ok(query) => query,
            Err(error) => {
                let message = crate::daemon::text::chain(&error);
                drop(opened.send(Err(Box::new(ErrorBody::new(ErrorKind::Failed, message)))));
                return;
            }
        };
        if opened.send(Ok(())).is_err() {
            return;
        }
        let told = match self.tell(query, began, marks) {
            Ok(Ok(())) => self.put_end(),
            Ok(Err(error)) => self.send(Err(error)),
            Err(Gone) => Err(Gone),
        };
        // Nobody is left to be told.
        let _gone = told;
    }

    fn tell(
        &mut self,
        mut query: Query,
        began: WallTime,
        mut marks: Vec<Option<Mark>>,
    ) -> Result<std::io::Result<()>, Gone> {
        for record in &mut query {
            let record = match record {
                Ok(record) => record,
                Err(error) => return Ok(Err(std::io::Error::other(error))),
            };
            let Some(log) = self.logs.get_mut(record.source) else {
                continue;
            };
            let mark = Some(record.after.mark());
            log.has(mark);
            if let Some(place) = marks.get_mut(record.source) {
                *place = mark;
            }
            self.floor = self.floor.max(record.time);
            let line = line(&log.source, &log.parser.parse(&record.bytes), record.time);
            self.put(&line);
            self.pass_on()?;
        }
        self.flush()?;
        if !self.wanted.follow {
            return Ok(Ok(()));
        }
        self.floor = self.floor.max(Some(began));
        let from = self.places(&query, &marks);
        drop(query);
        match Follower::new(from) {
            Ok(follower) => self.follow(follower),
            Err(error) => Ok(Err(error)),
        }
    }

    /// Where the query ended.
    fn places(&mut self, query: &Query, marks: &[Option<Mark>]) -> Vec<(PathBuf, From)> {
        let mut places = Vec::with_capacity(self.logs.len());
        for ((log, end), mark) in self.logs.iter_mut().zip(query.ends()).zip(marks) {
            let from = end.map_or(From::Beginning, |mut end| {
                // A part of a line that is not finished yet was given before.
                if let Some(mark) = mark.filter(|mark| mark.file == end.mark().file) {
                    end.offset = end.offset.max(mark.offset);
                }
                log.has(Some(end.mark()));
                From::At(end)
            });
            places.push((log.source.path.as_path().to_owned(), from));
        }
        places
    }

    fn follow(&mut self, mut follower: Follower) -> Result<std::io::Result<()>, Gone> {
        // What is there to follow was written later than `since`, or later still.
        while self.wanted.filter.until.is_none_or(|until| clock::wall() < until) {
            let lines = match follower.next(Some(LOOK)) {
                Ok(lines) => lines,
                Err(error) => return Ok(Err(error)),
            };
            let now = clock::wall();
            for line in lines {
                self.put_line(&line, now);
                self.pass_on()?;
            }
            self.flush()?;
            if self.sent.after(SILENCE) <= clock::monotonic() {
                self.send(Ok(Bytes::from_static(self.form.sign_of_life())))?;
            }
            if self.out.is_closed() {
                return Err(Gone);
            }
            if self.is_stale()
                && let Err(error) = self.look_for_more(&mut follower)?
            {
                return Ok(Err(error));
            }
        }
        Ok(Ok(()))
    }

    fn put_line(&mut self, found: &Line, now: WallTime) {
        let Some(log) = self.logs.get_mut(found.source) else {
            return;
        };
        if found.notice {
            let notice = notice(&log.source, &found.bytes, now);
            return self.put(&notice);
        }
        log.has(found.after.map(Position::mark));
        let parsed = log.parser.parse(&found.bytes);
        // A raw line was written just now.
        let time = Some(parsed.time.unwrap_or(now));
        let filter = &self.wanted.filter;
        if filter.is_in_time(time, log.parser.is_timed()) && filter.wants(&parsed) {
            let line = line(&log.source, &parsed, time);
            self.put(&line);
        }
    }

    fn put(&mut self, line: &LogLine) {
        let parts = self.logs.iter().map(|log| log.had.as_str());
        let id = match self.form {
            Form::Lines => None,
            Form::Events => resume::id(self.floor, parts),
        };
        self.form.put(line, id.as_deref(), &mut self.block);
    }

    /// Whether something was started that may write logs of its own.
    fn is_stale(&mut self) -> bool {
        let mut stale = false;
        loop {
            match self.news.try_recv() {
                Ok(event) => stale |= event.kind == EventKind::Started,
                Err(TryRecvError::Lagged(_)) => stale = true,
                Err(TryRecvError::Empty | TryRecvError::Closed) => return stale,
            }
        }
    }

    /// Adds logs that are new, from their beginning on.
    fn look_for_more(&mut self, follower: &mut Follower) -> Result<std::io::Result<()>, Gone> {
        let (sender, receiver) = oneshot::channel();
        let targets = self.wanted.targets.clone();
        self.mail
            .post(move |daemon| drop(sender.send(daemon.log_sources(&targets))));
        // An app that was deleted takes nothing away from what is followed.
        let Ok(Ok(found)) = receiver.blocking_recv() else {
            return Ok(Ok(()));
        };
        let times = found.times.clone();
        for source in self.add(found, &times) {
            if let Err(error) = follower.add(source.path, From::Beginning) {
                return Ok(Err(error));
            }
        }
        Ok(Ok(()))
    }

    /// Adds the files that are wanted and not known yet.
    fn add(&mut self, found: LogSources, times: &Option<crate::model::ostext::OsText>) -> Vec<Source> {
        let mut added = Vec::new();
        let filter = &mut self.wanted.filter;
        if !self.wanted.targets.is_empty() {
            filter
                .apps
                .extend(found.sources.iter().map(|source| source.app.clone()));
            filter.apps.sort();
            filter.apps.dedup();
        }
        for source in Chosen::of(found.sources, filter.stream, &filter.instances).read {
            if self.logs.iter().any(|log| log.source.path == source.path) {
                continue;
            }
            added.push(Source {
                path: source.path.as_path().to_owned(),
                format: source.format.clone(),
                zone: source.zone.clone(),
                times: times.as_ref().map(|times| times.as_path().to_owned()),
            });
            let parser = Parser::new(&source.format, source.zone.as_deref());
            self.logs.push(Log {
                source,
                parser,
                had: String::new(),
            });
        }
        added
    }

    /// Sends what was gathered, if it is enough or old enough.
    fn pass_on(&mut self) -> Result<(), Gone> {
        let is_late = || self.sent.after(GATHERED) <= clock::monotonic();
        if self.block.len() >= BLOCK || (!self.block.is_empty() && self.out.capacity() > 0 && is_late()) {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Gone> {
        if self.block.is_empty() {
            return Ok(());
        }
        let block = std::mem::take(&mut self.block);
        self.send(Ok(block.into()))
    }

    fn put_end(&mut self) -> Result<(), Gone> {
        self.block.extend_from_slice(self.form.end());
        self.flush()
    }

    /// Waits until the client has taken the block before.
    fn send(&mut self, block: std::io::Result<Bytes>) -> Result<(), Gone> {
        self.sent = clock::monotonic();
        if block.as_ref().is_ok_and(Bytes::is_empty) {
            return Ok(());
        }
        self.out.blocking_send(block).map_err(|_| Gone)
    }
}
