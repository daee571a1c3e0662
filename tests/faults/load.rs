//! Requests to the web apps: each is checked, none is tried again.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clmgr::model::duration::Millis;
use clmgr::os::{clock, poll};

use crate::report::Report;

/// Sends a request every so often until it is told to stop.
pub(crate) fn run(report: &Report, port: u16, who: u32, keep_alive: bool, pause: Millis, stop: &AtomicBool) {
    let mut kept = None;
    let mut number = 0_u64;
    while !stop.load(Ordering::Acquire) {
        number += 1;
        let id = format!("{who}-{number}");
        let begin = clock::monotonic();
        match ask(kept.take(), port, &id, keep_alive) {
            Ok(stream) => {
                report.count("requests answered", 1);
                kept = stream;
            }
            Err(error) => {
                let age = clock::monotonic().since(begin);
                let connection = if keep_alive { "kept" } else { "new" };
                report.wrong(
                    "requests failed",
                    1,
                    format!("{id} to port {port} on a {connection} connection after {age}: {error:#}"),
                );
            }
        }
        poll::pause(pause);
    }
}

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
        stream.read_line(&mut line).context("reading a header")?;
        if line == "\r\n" {
            break;
        }
        if let Some(value) = line.strip_prefix("Content-Length: ") {
            length = value.trim().parse()?;
        }
        close |= line == "Connection: close\r\n";
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).context("reading the body")?;
    let body = String::from_utf8(body)?;
    ensure!(body.split(' ').next() == Some(id), "the body is {body:?}");
    Ok((!close).then_some(stream))
}
