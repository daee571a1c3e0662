//! The thread of one stream: reads, chooses, encodes, and waits for the client.

use std::time::Duration;

use axum::body::Bytes;
use tokio::sync::broadcast::error::TryRecvError;
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::api::logs::{LogSource, LogSources};
use crate::daemon::http::logs::encode::{Form, line};
use crate::daemon::http::logs::wanted::Wanted;
use crate::daemon::mail::Mail;
use crate::logs::query::{Parser, Query, Source};
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
        }
    }

    /// Says over `opened` whether the logs can be read, then sends their lines until there are no more, or until the
    /// client goes away.
    pub(super) fn run(mut self, found: LogSources, opened: Opened) {
        // Of this thread only.
        let _niced = rustix::process::setpriority_process(None, 10);
        let times = found.times.clone();
        let sources = self.add(found, &times);
        let query = Query::open(sources, self.wanted.filter.clone(), !self.wanted.follow);
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
        let told = match self.tell(query) {
            Ok(Ok(())) => self.put_end(),
            Ok(Err(error)) => self.send(Err(error)),
            Err(Gone) => Err(Gone),
        };
        // Nobody is left to be told.
        let _gone = told;
    }

    fn tell(&mut self, mut query: Query) -> Result<std::io::Result<()>, Gone> {
        for record in &mut query {
            let record = match record {
                Ok(record) => record,
                Err(error) => return Ok(Err(std::io::Error::other(error))),
            };
            let Some(log) = self.logs.get(record.source) else {
                continue;
            };
            let line = line(&log.source, &log.parser.parse(&record.bytes), record.time);
            self.form.put(&line, &mut self.block);
            self.pass_on()?;
        }
        self.flush()?;
        if !self.wanted.follow {
            return Ok(Ok(()));
        }
        let ends = self.logs.iter().zip(query.ends());
        let from = ends.map(|(log, end)| {
            (
                log.source.path.as_path().to_owned(),
                end.map_or(From::Beginning, From::At),
            )
        });
        let follower = Follower::new(from.collect());
        drop(query);
        match follower {
            Ok(follower) => self.follow(follower),
            Err(error) => Ok(Err(error)),
        }
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
        let Some(log) = self.logs.get(found.source) else { return };
        let parsed = log.parser.parse(&found.bytes);
        // A raw line was written just now.
        let time = Some(parsed.time.unwrap_or(now));
        let filter = &self.wanted.filter;
        if filter.is_in_time(time, log.parser.is_timed()) && filter.wants(&parsed) {
            let line = line(&log.source, &parsed, time);
            self.form.put(&line, &mut self.block);
        }
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
        for source in found.sources {
            if !self.wanted.has(&source) || self.logs.iter().any(|log| log.source.path == source.path) {
                continue;
            }
            added.push(Source {
                path: source.path.as_path().to_owned(),
                format: source.format.clone(),
                zone: source.zone.clone(),
                times: times.as_ref().map(|times| times.as_path().to_owned()),
            });
            let parser = Parser::new(&source.format, source.zone.as_deref());
            self.logs.push(Log { source, parser });
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
