//! A server on the listener it inherits. On SIGTERM it accepts nothing more, answers with `Connection: close`, and
//! ends when its connections have. On SIGUSR2 it takes 300 MB and keeps them.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use clmgr::model::duration::Millis;
use clmgr::os::signals::Signals;
use clmgr::os::{clock, fds, poll};
use rustix::event::{PollFd, PollFlags};

use crate::held;

/// How long an idle connection is kept for one more request when the server ends.
const GRACE: Millis = Millis(3000);
/// What SIGUSR2 makes it take.
const LEAK: usize = 300 << 20;
/// SIGTERM and SIGUSR2.
const SIGNALS: [i32; 2] = [15, 12];

/// What the threads of the connections share.
#[derive(Debug)]
struct Shared {
    closing: AtomicBool,
    open: AtomicUsize,
    held: File,
    status: &'static str,
}

/// A server that has its socket.
#[derive(Debug)]
pub(super) struct Server {
    signals: Signals,
    listener: TcpListener,
    shared: Arc<Shared>,
}

impl Server {
    /// Takes the socket.
    pub(super) fn new(folder: &Path) -> anyhow::Result<Self> {
        let signals = Signals::block(&SIGNALS)?;
        let count = std::env::var("LISTEN_FDS").unwrap_or_default();
        anyhow::ensure!(count == "1", "{count:?} listeners were handed over");
        let listener = TcpListener::from(fds::inherited(3)?);
        listener.set_nonblocking(true)?;
        let shared = Shared {
            closing: AtomicBool::new(false),
            open: AtomicUsize::new(0),
            held: held::begin(folder)?,
            status: "200 OK",
        };
        Ok(Self {
            signals,
            listener,
            shared: Arc::new(shared),
        })
    }

    /// Every answer says that the server has failed.
    pub(super) fn failing(mut self) -> Self {
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            shared.status = "500 Internal Server Error";
        }
        self
    }

    /// Serves until SIGTERM, or for so long; then it leaves everything as it is.
    pub(super) fn serve(self, limit: Option<Millis>) -> anyhow::Result<u8> {
        let end = limit.map(|limit| clock::monotonic().after(limit));
        loop {
            let mut polled = [
                PollFd::new(&self.listener, PollFlags::IN),
                PollFd::new(&self.signals, PollFlags::IN),
            ];
            let wait = rustix::event::Timespec {
                tv_sec: 0,
                tv_nsec: 20_000_000,
            };
            let _interrupted = rustix::event::poll(&mut polled, end.map(|_| &wait));
            if end.is_some_and(|end| clock::monotonic() > end) {
                return Ok(5);
            }
            match self.signals.next()? {
                Some(12) => drop(std::thread::spawn(|| std::mem::forget(vec![1_u8; LEAK]))),
                Some(_) => break,
                None => {}
            }
            while let Ok((stream, peer)) = self.listener.accept() {
                held::opened(&self.shared.held, peer.port());
                self.shared.open.fetch_add(1, Ordering::AcqRel);
                let shared = Arc::clone(&self.shared);
                std::thread::spawn(move || {
                    // A connection that breaks is for the other end to judge.
                    let _broken = serve(stream, &shared);
                    held::closed(&shared.held, peer.port());
                    shared.open.fetch_sub(1, Ordering::AcqRel);
                });
            }
        }
        drop(self.listener);
        self.shared.closing.store(true, Ordering::Release);
        let until = clock::monotonic().after(GRACE);
        while self.shared.open.load(Ordering::Acquire) > 0 && clock::monotonic() < until {
            poll::pause(Millis(5));
        }
        Ok(0)
    }
}

/// Says that it is ready.
pub(super) fn say_ready(mut to: Option<&File>) -> std::io::Result<()> {
    to.as_mut().map_or(Ok(()), |file| file.write_all(b"1"))
}

fn serve(stream: TcpStream, shared: &Shared) -> anyhow::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut path = line.split(' ').nth(1).context("no path")?.split('/').skip(1);
        let delay: u64 = path.next().context("no delay")?.parse()?;
        let id = path.next().context("no number")?.to_owned();
        let mut close = false;
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            if line.trim().is_empty() {
                break;
            }
            close |= line.eq_ignore_ascii_case("connection: close\r\n");
        }
        if delay > 0 {
            poll::pause(Millis(delay));
        }
        close |= shared.closing.load(Ordering::Acquire);
        let body = format!("{id} {}\n", std::process::id());
        let connection = if close { "close" } else { "keep-alive" };
        let answer = format!(
            "HTTP/1.1 {}\r\nContent-Length: {}\r\nConnection: {connection}\r\n\r\n{body}",
            shared.status,
            body.len()
        );
        writer.write_all(answer.as_bytes())?;
        if close {
            return Ok(());
        }
    }
}
