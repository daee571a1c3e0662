//! A channel of messages with descriptors over a Unix stream socket.
//!
//! A frame is the length of its message (four bytes, little-endian), the number of its descriptors (one
//! byte) and the message. The descriptors travel with the frame's first byte, so when a frame is complete
//! they have all arrived, however the stream was cut on its way.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;

use minicbor::{Decode, Encode};

use crate::os::fds;

/// Largest message, in bytes.
pub const MAX_FRAME: usize = 16 << 20;
/// Most descriptors with one message.
pub const MAX_FDS: usize = fds::MAX_PASSED;

const HEADER: usize = 5;
/// Bytes asked for at once.
const READ: usize = 16 * 1024;
/// At most, when a large message is on its way.
const READ_MOST: usize = 256 * 1024;
/// Buffers larger than this are given back when they are empty.
const KEEP: usize = 64 * 1024;

/// Why a link does not work (any more).
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The other side is gone.
    #[error("the connection was closed")]
    Closed,
    /// The socket fails.
    #[error("the connection failed")]
    Io(#[source] io::Error),
    /// The other side sent something that is no message.
    #[error("a message cannot be understood")]
    Decode(#[source] minicbor::decode::Error),
    /// A message larger than [`MAX_FRAME`].
    #[error("a message of {0} bytes is too large")]
    TooLarge(usize),
    /// More than [`MAX_FDS`] descriptors.
    #[error("{0} descriptors are too many for one message")]
    TooManyFds(usize),
    /// Descriptors were announced that did not come: this process can hold no more of them.
    #[error("descriptors were lost on the way; the limit of open descriptors is reached")]
    FdsLost,
}

/// One end. Both directions are independent; nothing here ever waits.
#[derive(Debug)]
pub struct Link {
    socket: OwnedFd,
    inbox: Vec<u8>,
    begin: usize,
    fds: VecDeque<OwnedFd>,
    outbox: VecDeque<Chunk>,
}

/// Frames on their way out; the descriptors go with the first byte.
#[derive(Debug, Default)]
struct Chunk {
    bytes: Vec<u8>,
    sent: usize,
    fds: Vec<Arc<OwnedFd>>,
}

impl Link {
    /// A link over a connected Unix stream socket, which is made non-blocking.
    ///
    /// # Errors
    /// Not an open descriptor.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        fds::set_nonblocking(&socket)?;
        Ok(Self {
            socket,
            inbox: Vec::new(),
            begin: 0,
            fds: VecDeque::new(),
            outbox: VecDeque::new(),
        })
    }

    /// Puts a message into the outgoing queue, which has no limit. Call [`Link::flush`] afterwards.
    ///
    /// # Errors
    /// The message or the number of descriptors is too large; nothing is queued then.
    pub fn queue<M: Encode<()>>(&mut self, message: &M, fds: Vec<Arc<OwnedFd>>) -> Result<(), LinkError> {
        let count = u8::try_from(fds.len()).ok().filter(|_| fds.len() <= MAX_FDS);
        let count = count.ok_or(LinkError::TooManyFds(fds.len()))?;
        if !fds.is_empty() || self.outbox.is_empty() {
            self.outbox.push_back(Chunk {
                fds,
                ..Chunk::default()
            });
        }
        let Some(chunk) = self.outbox.back_mut() else {
            return Ok(());
        };
        let begin = chunk.bytes.len();
        chunk.bytes.extend_from_slice(&[0, 0, 0, 0, count]);
        let length = match minicbor::encode(message, &mut chunk.bytes) {
            Ok(()) => chunk.bytes.len() - begin - HEADER,
            Err(_) => usize::MAX,
        };
        let prefix = u32::try_from(length).ok().filter(|_| length <= MAX_FRAME);
        match (prefix, chunk.bytes.get_mut(begin..begin + 4)) {
            (Some(length), Some(room)) => {
                room.copy_from_slice(&length.to_le_bytes());
                Ok(())
            }
            (None, _) | (_, None) => {
                chunk.bytes.truncate(begin);
                if begin == 0 {
                    self.outbox.pop_back();
                }
                Err(LinkError::TooLarge(length))
            }
        }
    }

    /// Sends what the socket takes; true when the queue is empty.
    ///
    /// # Errors
    /// The other side is gone, or the socket fails.
    pub fn flush(&mut self) -> io::Result<bool> {
        while let Some(chunk) = self.outbox.front_mut() {
            let fds: Vec<BorrowedFd<'_>> = chunk.fds.iter().map(|fd| fd.as_fd()).collect();
            let rest = chunk.bytes.get(chunk.sent..).unwrap_or_default();
            match fds::send(&self.socket, rest, &fds) {
                Ok(sent) => {
                    chunk.sent += sent;
                    chunk.fds.clear();
                    if chunk.sent >= chunk.bytes.len() {
                        self.outbox.pop_front();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                // Too many descriptors are on their way: the other side will take them.
                Err(error) if error.raw_os_error() == Some(libc::ETOOMANYREFS) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Forgets what is queued: the other side will not read it.
    pub fn discard(&mut self) {
        self.outbox.clear();
    }

    /// Nothing of ours waits to be sent, and nothing of the other side's waits to be acted upon.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.outbox.is_empty() && self.begin == self.inbox.len() && self.fds.is_empty()
    }

    /// True while something waits for the socket to become writable.
    #[must_use]
    pub fn wants_write(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// The next message with its descriptors. `None` after the socket had nothing more to read.
    ///
    /// # Errors
    /// The other side is gone, or sent something wrong; the link is of no use any more then.
    pub fn receive<M: for<'b> Decode<'b, ()>>(&mut self) -> Result<Option<(M, Vec<OwnedFd>)>, LinkError> {
        loop {
            if let Some(frame) = self.take()? {
                return Ok(Some(frame));
            }
            if !self.fill()? {
                return Ok(None);
            }
        }
    }

    /// The length of the frame that begins the buffer, header included, once its header is there.
    fn frame(&self) -> Result<Option<(usize, usize)>, LinkError> {
        let buffered = self.inbox.get(self.begin..).unwrap_or_default();
        let Some((&[a, b, c, d, count], _)) = buffered.split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        if length > MAX_FRAME {
            return Err(LinkError::TooLarge(length));
        }
        let count = usize::from(count);
        if count > MAX_FDS {
            return Err(LinkError::TooManyFds(count));
        }
        Ok(Some((HEADER + length, count)))
    }

    fn take<M: for<'b> Decode<'b, ()>>(&mut self) -> Result<Option<(M, Vec<OwnedFd>)>, LinkError> {
        let Some((length, count)) = self.frame()? else {
            return Ok(None);
        };
        let Some(body) = self.inbox.get(self.begin + HEADER..self.begin + length) else {
            return Ok(None);
        };
        let message = minicbor::decode(body).map_err(LinkError::Decode)?;
        if self.fds.len() < count {
            return Err(LinkError::FdsLost);
        }
        let fds = self.fds.drain(..count).collect();
        self.begin += length;
        if self.begin == self.inbox.len() {
            self.inbox.clear();
            self.begin = 0;
            if self.inbox.capacity() > KEEP {
                self.inbox = Vec::new();
            }
        }
        Ok(Some((message, fds)))
    }

    /// Reads once; false when there is nothing to read.
    fn fill(&mut self) -> Result<bool, LinkError> {
        if self.begin > 0 {
            self.inbox.drain(..self.begin);
            self.begin = 0;
        }
        let filled = self.inbox.len();
        let missing = self.frame()?.map_or(0, |(length, _)| length.saturating_sub(filled));
        self.inbox.resize(filled + missing.clamp(READ, READ_MOST), 0);
        let result = fds::receive(
            &self.socket,
            self.inbox.get_mut(filled..).unwrap_or_default(),
            &mut self.fds,
        );
        self.inbox
            .truncate(filled + result.as_ref().map_or(0, |received| received.bytes));
        match result {
            Ok(received) if received.lost => Err(LinkError::FdsLost),
            Ok(received) if received.bytes == 0 => Err(LinkError::Closed),
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Err(LinkError::Closed),
            Err(error) => Err(LinkError::Io(error)),
        }
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Link {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}
