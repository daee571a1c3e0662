//! The socket of a target. Nothing here waits.

use std::io::{IoSlice, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
    connect, send, sendmsg, socket_with, sockopt,
};

/// What journald's own library asks for, in bytes. The system may give less.
const BUFFER: usize = if cfg!(test) { 64 << 10 } else { 8 << 20 };

/// How a try ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    Done,
    /// The receiver has not read enough: again when the socket can be written.
    Full,
    /// Nobody receives: again later.
    Down(Errno),
    /// No message may be as large.
    TooLarge,
}

/// A connection, or the wish for one.
#[derive(Debug)]
pub(super) struct Link {
    path: PathBuf,
    socket: Option<OwnedFd>,
    /// It is a stream: messages end with a newline.
    stream: bool,
    /// It is in the pump's epoll set.
    pub(super) armed: bool,
    /// The rest of a message of which a stream took a part.
    rest: Vec<u8>,
}

impl Link {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            socket: None,
            stream: false,
            armed: false,
            rest: Vec::new(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// To be waited for.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }

    fn open(&mut self) -> Result<(), Errno> {
        let address = SocketAddrUnix::new(&self.path)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let mut stream = false;
        let mut socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
        match connect(&socket, &address) {
            Err(Errno::PROTOTYPE) => {
                socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
                stream = true;
                connect(&socket, &address)?;
            }
            other => other?,
        }
        // As much as we may have.
        let _kept = sockopt::set_socket_send_buffer_size(&socket, BUFFER);
        self.socket = Some(socket);
        self.stream = stream;
        self.armed = false;
        self.rest.clear();
        Ok(())
    }

    fn fail(&mut self, error: Errno) -> Sent {
        self.socket = None;
        self.armed = false;
        self.rest.clear();
        Sent::Down(error)
    }

    /// Sends one message. A stream that takes a part of it gets the rest before the next one.
    pub(super) fn send(&mut self, message: &[u8]) -> Sent {
        // A receiver that was replaced shows only now; the second try is the new one's.
        for again in [true, false] {
            if self.socket.is_none()
                && let Err(error) = self.open()
            {
                return self.fail(error);
            }
            match self.try_send(message) {
                Ok(()) => return Sent::Done,
                Err(Errno::AGAIN | Errno::NOBUFS) => return Sent::Full,
                Err(Errno::MSGSIZE) => return Sent::TooLarge,
                Err(error) => {
                    let down = self.fail(error);
                    if !again {
                        return down;
                    }
                }
            }
        }
        Sent::Full
    }

    fn try_send(&mut self, message: &[u8]) -> Result<(), Errno> {
        let Some(socket) = &self.socket else {
            return Err(Errno::NOTCONN);
        };
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        if !self.stream {
            return retry(|| send(socket, message, flags)).map(drop);
        }
        while !self.rest.is_empty() {
            let count = retry(|| send(socket, &self.rest, flags))?;
            self.rest.drain(..count);
        }
        let whole = [message, b"\n"].concat();
        let count = retry(|| send(socket, &whole, flags))?;
        self.rest.extend_from_slice(whole.get(count..).unwrap_or_default());
        Ok(())
    }

    /// Sends what a stream has still to get of its last message.
    pub(super) fn finish(&mut self) -> Sent {
        let Some(socket) = &self.socket else { return Sent::Done };
        while !self.rest.is_empty() {
            match retry(|| send(socket, &self.rest, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)) {
                Ok(count) => drop(self.rest.drain(..count)),
                Err(Errno::AGAIN | Errno::NOBUFS) => return Sent::Full,
                Err(error) => return self.fail(error),
            }
        }
        Sent::Done
    }

    /// Sends a message in sealed memory, of which the receiver gets the descriptor.
    pub(super) fn send_sealed(&mut self, message: &[u8]) -> Sent {
        let Some(socket) = &self.socket else {
            return Sent::Down(Errno::NOTCONN);
        };
        let Ok(memory) = sealed(message) else {
            return Sent::TooLarge;
        };
        let fds = [memory.as_fd()];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&fds));
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        match sendmsg(socket, &[IoSlice::new(&[])], &mut control, flags) {
            Ok(_) => Sent::Done,
            Err(Errno::AGAIN | Errno::NOBUFS) => Sent::Full,
            Err(error) => self.fail(error),
        }
    }
}

fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

fn sealed(message: &[u8]) -> std::io::Result<OwnedFd> {
    let memory = memfd_create("clmgr-log", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = std::fs::File::from(memory);
    file.write_all(message)?;
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL;
    fcntl_add_seals(&file, seals)?;
    Ok(file.into())
}
