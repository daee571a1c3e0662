//! An HTTP server on the listener it inherits. On SIGTERM it stops accepting, answers what is on its
//! connections, and ends.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use clmgr::model::duration::Millis;
use clmgr::os::signals::Signals;
use clmgr::os::{fds, poll};

use crate::ledger::{Pen, Record};

/// How long an idle connection is kept for one more request when the server ends.
const GRACE: Millis = Millis(3000);

/// What the threads of the connections look at.
#[derive(Debug, Default)]
struct Shared {
    closing: AtomicBool,
    open: AtomicUsize,
}

/// Serves until SIGTERM.
pub(crate) fn play(pen: &mut Pen) -> anyhow::Result<u8> {
    let signals = Signals::block(&[15])?;
    let listener = listener()?;
    listener.set_nonblocking(true)?;
    pen.write(Record::Born)?;
    let shared = Arc::new(Shared::default());
    loop {
        let mut polled = [
            rustix::event::PollFd::new(&listener, rustix::event::PollFlags::IN),
            rustix::event::PollFd::new(&signals, rustix::event::PollFlags::IN),
        ];
        let _interrupted = rustix::event::poll(&mut polled, None);
        if signals.next()?.is_some() {
            break;
        }
        while let Ok((stream, _)) = listener.accept() {
            shared.open.fetch_add(1, Ordering::AcqRel);
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || {
                // A connection that breaks is for the other end to judge.
                let _broken = serve(stream, &shared);
                shared.open.fetch_sub(1, Ordering::AcqRel);
            });
        }
    }
    drop(listener);
    shared.closing.store(true, Ordering::Release);
    let until = clmgr::os::clock::monotonic().after(GRACE);
    while shared.open.load(Ordering::Acquire) > 0 && clmgr::os::clock::monotonic() < until {
        poll::pause(Millis(10));
    }
    Ok(0)
}

fn listener() -> anyhow::Result<TcpListener> {
    anyhow::ensure!(
        std::env::var("LISTEN_FDS").as_deref() == Ok("1"),
        "no listener was handed over"
    );
    Ok(TcpListener::from(fds::inherited(3)?))
}

/// Answers `GET /ID` with `ID PID`.
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
        let id = line
            .split(' ')
            .nth(1)
            .map(|path| path.trim_start_matches('/').to_owned())
            .context("no path")?;
        let mut close = false;
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            if line.trim().is_empty() {
                break;
            }
            close |= line.eq_ignore_ascii_case("connection: close\r\n");
        }
        close |= shared.closing.load(Ordering::Acquire);
        let body = format!("{id} {}", std::process::id());
        let connection = if close { "close" } else { "keep-alive" };
        write!(
            writer,
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: {connection}\r\n\r\n{body}",
            body.len()
        )?;
        if close {
            return Ok(());
        }
    }
}
