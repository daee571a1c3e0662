//! Requests to the web apps: each is checked, none is tried again.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clmgr::model::duration::Millis;
use clmgr::model::time::Moment;
use clmgr::os::{clock, poll};

use crate::report::Report;

/// A request that was not answered.
#[derive(Debug)]
pub(crate) struct Failed {
    /// When it began.
    pub(crate) from: Moment,
    /// When it had failed.
    pub(crate) to: Moment,
    /// Its connection was new, and was reset before anything came from it.
    pub(crate) unaccepted: bool,
    /// For people.
    pub(crate) what: String,
}

/// Where requests go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load<'a> {
    pub(crate) report: &'a Report,
    pub(crate) failed: &'a Mutex<Vec<Failed>>,
    pub(crate) port: u16,
    pub(crate) keep_alive: bool,
    /// Between two requests.
    pub(crate) pause: Millis,
}

/// Sends a request every so often until it is told to stop.
pub(crate) fn run(load: &Load<'_>, who: u32, stop: &AtomicBool) {
    let Load {
        report,
        port,
        keep_alive,
        ..
    } = *load;
    let mut kept = None;
    let mut number = 0_u64;
    while !stop.load(Ordering::Acquire) {
        number += 1;
        let id = format!("{who}-{number}");
        let begin = clock::monotonic();
        let is_new = kept.is_none();
        match ask(kept.take(), port, &id, keep_alive) {
            Ok(stream) => {
                report.count("requests answered", 1);
                kept = stream;
            }
            Err(error) => {
                let now = clock::monotonic();
                let connection = if is_new { "new" } else { "kept" };
                let age = now.since(begin);
                let failed = Failed {
                    from: begin,
                    to: now,
                    unaccepted: is_new && is_reset(&error),
                    what: format!("{id} to port {port} on a {connection} connection after {age}: {error:#}"),
                };
                load.failed.lock().unwrap_or_else(PoisonError::into_inner).push(failed);
            }
        }
        poll::pause(load.pause);
    }
}

/// The other end was closed before it said anything.
fn is_reset(error: &anyhow::Error) -> bool {
    let causes = error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    let mut kinds = causes.map(std::io::Error::kind);
    kinds.any(|kind| matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe))
        && !format!("{error:#}").contains(LATER)
}

/// In errors of what comes after the status line.
const LATER: &str = "reading the answer";

/// One request and its answer. Returns the connection if both sides want to keep it.
fn ask(
    kept: Option<BufReader<TcpStream>>,
    port: u16,
    id: &str,
    keep_alive: bool,
) -> anyhow::Result<Option<BufReader<TcpStream>>> {
    let mut stream = if let Some(stream) = kept {
        stream
    } else {
        let stream = TcpStream::connect(("127.0.0.1", port)).context("connecting")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        BufReader::new(stream)
    };
    let connection = if keep_alive { "keep-alive" } else { "close" };
    let request = format!("GET /{id} HTTP/1.1\r\nHost: localhost\r\nConnection: {connection}\r\n\r\n");
    stream.get_mut().write_all(request.as_bytes()).context("sending")?;
    let mut line = String::new();
    stream.read_line(&mut line).context("reading the status")?;
    ensure!(line == "HTTP/1.1 200 OK\r\n", "the status line is {line:?}");
    let (mut length, mut close) = (0, false);
    loop {
        line.clear();
        stream.read_line(&mut line).context("reading the answer: a header")?;
        if line == "\r\n" {
            break;
        }
        if let Some(value) = line.strip_prefix("Content-Length: ") {
            length = value.trim().parse()?;
        }
        close |= line == "Connection: close\r\n";
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).context("reading the answer: the body")?;
    let body = String::from_utf8(body)?;
    ensure!(body.split(' ').next() == Some(id), "the body is {body:?}");
    Ok((!close).then_some(stream))
}
