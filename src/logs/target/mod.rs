//! Output that goes to journald or syslog, beside the files or instead of them.
//!
//! ```text
//!                      empty queue
//!  lines ── framed ───────────────────────────────► socket ── EAGAIN: wait for EPOLLOUT
//!             │                                       ▲    └─ down: try again after 0.1 s, 0.2 s … 10 s
//!             └─ else ► queue (a file, at most 1 MiB) ┘
//!                          │ full
//!                          └► lost and counted, until the queue is empty again: a marker for every stream, go on
//! ```
//!
//! Nobody waits for a target: not the app, not the pump, not another target. A restart of journald costs nothing,
//! because the queue takes what comes meanwhile. The queue is a file beside the journal's, so that it survives a
//! kill of this process, and costs no memory.
//!
//! The order of a stream's lines is kept. A line is sent at least once: of what this process was sending when it was
//! killed, at most one block ([`BLOCK`] bytes of lines, or one longer line) for each stream, and what it had sent from
//! the queue since it last noted how much, is sent again. What the target itself loses after it has taken it is not
//! known here.

mod journald;
mod queue;
mod remote;
mod socket;
mod syslog;

use std::path::{Path, PathBuf};
use std::rc::Rc;

use memchr::{memchr, memrchr};

use crate::logs::file::Context;
use crate::logs::level;
use crate::logs::sink::{Origin, Sink};
use crate::model::logspec::{Facility, Stream};
use crate::model::names::{AppName, Slot};

pub use remote::Remote;

/// Lines are sent in blocks of about this size.
pub const BLOCK: usize = 8 << 10;

/// What is sent at once: lines of together not much more than [`BLOCK`], or one longer line.
#[must_use]
pub fn block(data: &[u8]) -> &[u8] {
    let Some(head) = data.get(..BLOCK) else { return data };
    let end = memrchr(b'\n', head).or_else(|| memchr(b'\n', data));
    end.and_then(|at| data.get(..=at)).unwrap_or(data)
}

/// Where the targets listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sockets {
    /// journald's, for its native protocol.
    pub journald: PathBuf,
    /// The local syslog's.
    pub syslog: PathBuf,
}

impl Default for Sockets {
    fn default() -> Self {
        Self {
            journald: "/run/systemd/journal/socket".into(),
            syslog: "/dev/log".into(),
        }
    }
}

/// Which targets a stream has besides files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// journald.
    pub journald: bool,
    /// syslog, as of this facility.
    pub syslog: Option<Facility>,
}

/// How a target is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Journald,
    Syslog,
}

impl Kind {
    const ALL: [Self; 2] = [Self::Journald, Self::Syslog];

    /// Of [`Remotes`].
    const fn index(self) -> usize {
        match self {
            Self::Journald => 0,
            Self::Syslog => 1,
        }
    }

    const fn queue_name(self) -> &'static str {
        match self {
            Self::Journald => "to-journald",
            Self::Syslog => "to-syslog",
        }
    }
}

/// All targets of a pump; one that nobody uses is nothing.
#[derive(Debug, Default)]
pub struct Remotes {
    sockets: Sockets,
    folder: Option<PathBuf>,
    all: [Option<Box<Remote>>; 2],
}

impl Remotes {
    /// Those at these sockets. What a former process left in the queues of this folder is sent.
    #[must_use]
    pub fn open(sockets: Sockets, folder: Option<&Path>) -> Self {
        let mut remotes = Self {
            sockets,
            folder: folder.map(Path::to_owned),
            all: [None, None],
        };
        for kind in Kind::ALL {
            if folder.is_some_and(|folder| folder.join(kind.queue_name()).exists()) {
                remotes.join(kind);
            }
        }
        remotes
    }

    fn join(&mut self, kind: Kind) {
        let socket = match kind {
            Kind::Journald => &self.sockets.journald,
            Kind::Syslog => &self.sockets.syslog,
        };
        let queue = self.folder.as_ref().map(|folder| folder.join(kind.queue_name()));
        if let Some(place) = self.all.get_mut(kind.index()) {
            place.get_or_insert_with(|| Box::new(Remote::new(kind, socket, queue.as_deref())));
        }
    }

    /// The targets in use, with their numbers.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u64, &mut Remote)> {
        (0..)
            .zip(&mut self.all)
            .filter_map(|(n, remote)| Some((n, &mut **remote.as_mut()?)))
    }

    /// The same, to look at.
    pub fn iter(&self) -> impl Iterator<Item = &Remote> {
        self.all.iter().flatten().map(|remote| &**remote)
    }

    /// Takes one out, to work with the rest of the context meanwhile; [`Self::put_back`] it.
    pub fn take(&mut self, number: usize) -> Option<Box<Remote>> {
        self.all.get_mut(number)?.take()
    }

    /// See [`Self::take`].
    pub fn put_back(&mut self, number: usize, remote: Box<Remote>) {
        if let Some(place) = self.all.get_mut(number) {
            *place = Some(remote);
        }
    }
}

/// Who says a line: what stands before the text in every message of a stream.
#[derive(Debug)]
struct Speaker {
    app: AppName,
    slot: Slot,
    stream: Stream,
    /// Ready to be sent.
    head: Head,
}

/// The constant part of a stream's messages.
#[derive(Debug)]
enum Head {
    Journald(journald::Head),
    Syslog(syslog::Head),
}

impl Speaker {
    /// A message with this text.
    fn frame(&self, severity: u8, now: crate::model::time::WallTime, text: &[u8], out: &mut Vec<u8>) {
        out.clear();
        match &self.head {
            Head::Journald(head) => head.frame(severity, text, out),
            Head::Syslog(head) => head.frame(severity, now, text, out),
        }
    }
}

/// One stream's ends of its targets.
#[derive(Debug)]
pub struct Ends {
    stream: Stream,
    all: Vec<(Kind, Rc<Speaker>)>,
}

impl Ends {
    /// What this sink asks for; none if it is nothing.
    pub fn new(sink: &Sink, stream: Stream, remotes: &mut Remotes) -> Option<Box<Self>> {
        let origin = &sink.origin;
        let journald = sink
            .targets
            .journald
            .then(|| (Kind::Journald, Head::Journald(journald::Head::new(origin, stream))));
        let syslog = sink
            .targets
            .syslog
            .map(|facility| (Kind::Syslog, Head::Syslog(syslog::Head::new(facility, origin, stream))));
        let all: Vec<_> = [journald, syslog]
            .into_iter()
            .flatten()
            .map(|(kind, head)| {
                remotes.join(kind);
                (kind, Rc::new(speaker(origin, stream, head)))
            })
            .collect();
        (!all.is_empty()).then(|| Box::new(Self { stream, all }))
    }

    /// Sends these lines, or has them wait, or loses them.
    pub fn send(&self, ctx: &mut Context, lines: &[u8]) {
        for (kind, speaker) in &self.all {
            let Some(mut remote) = ctx.remotes.take(kind.index()) else {
                continue;
            };
            let mut rest = lines;
            while !rest.is_empty() {
                let (line, after) = rest.split_at(memchr(b'\n', rest).map_or(rest.len(), |at| at + 1));
                let text = line.strip_suffix(b"\n").unwrap_or(line);
                let severity = level::of_json(text).map_or(usual(self.stream), |level| level.severity());
                remote.say(ctx, speaker, severity, text);
                rest = after;
            }
            remote.note();
            ctx.remotes.put_back(kind.index(), remote);
        }
    }
}

fn speaker(origin: &Origin, stream: Stream, head: Head) -> Speaker {
    Speaker {
        app: origin.app.clone(),
        slot: origin.slot,
        stream,
        head,
    }
}

/// The severity of a line without a level: informational, or an error.
const fn usual(stream: Stream) -> u8 {
    match stream {
        Stream::Out => 6,
        Stream::Err => 3,
    }
}
