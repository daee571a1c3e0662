//! One connection of the load.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, connect, recv, send, socket_with,
};

/// Room for an answer, which is a few hundred bytes.
const ROOM: usize = 1024;

/// What became of an attempt to go on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Step {
    /// The kernel says when there is more.
    Wait,
    /// The whole answer is here, from this process.
    Answer(u32),
    /// It broke, or the answer is not the one that was asked for.
    Broken,
}

/// A connection with at most one request on its way.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) socket: OwnedFd,
    /// When its request was due, in nanoseconds.
    pub(super) since: i64,
    /// Where it comes from, if that was chosen.
    pub(super) from: Option<Ipv4Addr>,
    /// Its request is with the kernel.
    pub(super) sent: bool,
    have: usize,
    answer: [u8; ROOM],
}

impl Connection {
    /// Begins to connect.
    pub(super) fn open(to: SocketAddrV4, from: Option<Ipv4Addr>, since: i64) -> Result<Self, Errno> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        if let Some(from) = from {
            bind(&socket, &SocketAddrV4::new(from, 0))?;
        }
        match connect(&socket, &to) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error),
        }
        Ok(Self {
            socket,
            since,
            from,
            sent: false,
            have: 0,
            answer: [0; ROOM],
        })
    }

    /// Makes it ready for its next request.
    pub(super) fn again(&mut self, since: i64) {
        (self.since, self.sent, self.have) = (since, false, 0);
    }

    /// Sends what is not sent, reads what is there.
    pub(super) fn go_on(&mut self, request: &[u8]) -> Step {
        if !self.sent {
            match send(&self.socket, request, SendFlags::NOSIGNAL) {
                Ok(sent) if sent == request.len() => self.sent = true,
                // Not connected yet: epoll says when.
                Err(Errno::AGAIN | Errno::NOTCONN) => {}
                Ok(_) | Err(_) => return Step::Broken,
            }
            return Step::Wait;
        }
        let room = self.answer.get_mut(self.have..).unwrap_or_default();
        match recv(&self.socket, room, RecvFlags::empty()) {
            Ok((_, 0)) => Step::Broken,
            Ok((_, more)) => {
                self.have += more;
                parse(self.answer.get(..self.have).unwrap_or_default())
            }
            Err(Errno::AGAIN) => Step::Wait,
            Err(_) => Step::Broken,
        }
    }
}

/// Looks whether an answer is complete: status 200, a body of eight digits.
fn parse(answer: &[u8]) -> Step {
    const BODY: usize = 8;
    let Some(head) = memchr::memmem::find(answer, b"\r\n\r\n") else {
        return if answer.len() < ROOM { Step::Wait } else { Step::Broken };
    };
    if !answer.starts_with(b"HTTP/1.1 200 ") {
        return Step::Broken;
    }
    let body = answer.get(head + 4..).unwrap_or_default();
    if body.len() < BODY {
        return Step::Wait;
    }
    let pid = std::str::from_utf8(body).ok().and_then(|text| text.parse().ok());
    pid.filter(|_| body.len() == BODY).map_or(Step::Broken, Step::Answer)
}
