//! One connection: at most one request at a time.
//!
//! ```text
//! Connecting ─▶ Asking ─▶ Idle ─▶ Asking ─▶ …
//!     │            │        └─▶ closed by the server: not a failure
//!     └────────────┴─▶ lost: refused, reset, end, timeout, a wrong answer
//! ```

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use crate::generator::answer::{self, Answer, Reading};
use crate::generator::tally::{Failure, Loss};

/// A request under way.
#[derive(Debug)]
pub(super) struct Request {
    /// Its number.
    number: u64,
    /// What the answer must repeat.
    id: String,
    /// When it should have been sent.
    pub(super) due: Instant,
    /// When it was given to a connection.
    begun: Instant,
    /// What is still to be written.
    unsent: Vec<u8>,
    /// It was on a connection that had answered before.
    reused: bool,
}

/// What came of looking at a connection.
#[derive(Debug)]
pub(super) enum Step {
    /// Nothing yet.
    Waiting,
    /// The answer; the request is taken out.
    Answered(Request, Answer),
    /// The request failed; the connection is of no use any more.
    Lost(Loss),
    /// The server closed it while nothing was asked.
    Closed,
}

/// A connection and what is asked on it.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    port: u16,
    connected: bool,
    opened: Instant,
    pid: Option<i32>,
    answers: u32,
    bytes: Vec<u8>,
    request: Option<Request>,
}

impl Connection {
    /// Begins to connect.
    pub(super) fn open(port: u16) -> Result<Self, Failure> {
        let connect = || -> rustix::io::Result<(TcpStream, bool)> {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
            sockopt::set_tcp_nodelay(&socket, true)?;
            let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
            match rustix::net::connect(&socket, &address) {
                Ok(()) => Ok((socket.into(), true)),
                Err(rustix::io::Errno::INPROGRESS) => Ok((socket.into(), false)),
                Err(errno) => Err(errno),
            }
        };
        let (stream, connected) = connect().map_err(|errno| kind(&errno.into()))?;
        let port = stream.local_addr().map_or(0, |address| address.port());
        Ok(Self {
            stream,
            port,
            connected,
            opened: Instant::now(),
            pid: None,
            answers: 0,
            bytes: Vec::new(),
            request: None,
        })
    }

    /// For the poller.
    pub(super) const fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// The number of its request.
    pub(super) fn asking(&self) -> Option<u64> {
        self.request.as_ref().map(|request| request.number)
    }

    /// True if nothing has come on it, and it has not ended: a request may be sent.
    pub(super) fn is_quiet(&mut self) -> bool {
        let mut byte = [0];
        let peeked = self.stream.peek(&mut byte);
        matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Sends a request as soon as it can.
    pub(super) fn ask(&mut self, number: u64, id: String, due: Instant, path: &str, keep_alive: bool) -> Step {
        let connection = if keep_alive { "keep-alive" } else { "close" };
        let text = format!("GET {path}{id} HTTP/1.1\r\nHost: localhost\r\nConnection: {connection}\r\n\r\n");
        self.bytes.clear();
        self.request = Some(Request {
            number,
            id,
            due,
            begun: Instant::now(),
            unsent: text.into_bytes(),
            reused: self.answers > 0,
        });
        if self.connected { self.write() } else { Step::Waiting }
    }

    /// The poller says that something has happened.
    pub(super) fn look(&mut self) -> Step {
        if !self.connected {
            match sockopt::socket_error(&self.stream) {
                Ok(Ok(())) if self.stream.peer_addr().is_ok() => self.connected = true,
                Ok(Ok(())) => return Step::Waiting,
                Ok(Err(errno)) | Err(errno) => return self.lose(kind(&errno.into()), "while connecting"),
            }
        }
        if let step @ (Step::Lost(_) | Step::Closed) = self.write() {
            return step;
        }
        self.read()
    }

    fn write(&mut self) -> Step {
        let Some(request) = &mut self.request else {
            return Step::Waiting;
        };
        while !request.unsent.is_empty() {
            match self.stream.write(&request.unsent) {
                Ok(count) => drop(request.unsent.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return self.lose(kind(&error), &format!("while sending: {error}")),
            }
        }
        Step::Waiting
    }

    fn read(&mut self) -> Step {
        let mut buffer = [0; 2048];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return self.lose(Failure::Eof, "the connection ended"),
                Ok(count) => self.bytes.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return self.lose(kind(&error), &format!("while reading: {error}")),
            }
            if let step @ (Step::Answered(..) | Step::Lost(_)) = self.judge() {
                return step;
            }
        }
        Step::Waiting
    }

    fn judge(&mut self) -> Step {
        let Some(request) = &self.request else {
            return self.lose(Failure::Wrong, "bytes that nobody asked for");
        };
        match answer::read(&self.bytes, &request.id) {
            Reading::Partial => Step::Waiting,
            Reading::Whole(answer) => {
                self.answers += 1;
                self.pid = Some(answer.pid);
                self.bytes.clear();
                let Some(request) = self.request.take() else {
                    return Step::Waiting;
                };
                Step::Answered(request, answer)
            }
            Reading::ServerError(code, pid) => {
                self.pid = pid.or(self.pid);
                self.lose(Failure::ServerError, &format!("status {code} from {pid:?}"))
            }
            Reading::Wrong(text) => self.lose(Failure::Wrong, &text),
        }
    }

    /// It takes too long.
    pub(super) fn give_up(&mut self, patience: Duration) -> Step {
        let connected = if self.connected { "answered" } else { "connected" };
        self.lose(Failure::Timeout, &format!("not {connected} within {patience:?}"))
    }

    fn lose(&mut self, failure: Failure, text: &str) -> Step {
        let Some(request) = self.request.take() else {
            return Step::Closed;
        };
        let is_end = matches!(failure, Failure::Reset | Failure::Eof);
        let failure = if is_end && request.reused && self.bytes.is_empty() {
            Failure::Raced
        } else {
            failure
        };
        let text = format!(
            "request {} after {:?}, connection of {:?} from port {} after {} answers, {} bytes received: {text}",
            request.id,
            request.begun.elapsed(),
            self.opened.elapsed(),
            self.port,
            self.answers,
            self.bytes.len(),
        );
        Step::Lost(Loss {
            failure,
            port: self.port,
            pid: self.pid,
            text,
        })
    }
}

fn kind(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Failure::Refused,
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted => Failure::Reset,
        io::ErrorKind::TimedOut => Failure::Timeout,
        _ => Failure::Wrong,
    }
}
