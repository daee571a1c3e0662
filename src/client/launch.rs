//! Making sure that somebody answers.
//!
//! ```text
//!  connect ──works──▶ done
//!     │ nobody listens
//!     ├─ keeper alive (its daemon is being restarted) ──▶ wait, connect again, at most 8 s
//!     └─ no keeper ──▶ start one, read its ready pipe to the end
//!            ├─ "ready"            ──▶ connect
//!            ├─ "already running"  ──▶ another CLI was faster: wait, connect again, at most 8 s
//!            └─ anything else      ──▶ that is the error
//! ```

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::client::connection::Client;
use crate::client::error::ClientError;

/// What a keeper writes into its ready pipe when its daemon answers.
pub const READY: &str = "ready";

/// What a keeper's message contains when another one has the lock.
pub const ALREADY_RUNNING: &str = "already running";

/// How long a daemon that is being restarted, or started by somebody else, is waited for, in ms. More than the
/// longest pause a keeper makes before it starts another one (1 s).
const PATIENCE: u16 = 8_000;

/// How long a keeper may be silent before it is ready, in ms: migrations and adoption take their time.
const SILENCE: u16 = 30_000;

/// Longest message read from a keeper, in bytes.
const MAX_MESSAGE: u64 = 64 << 10;

/// Why nobody answers.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The socket is there but cannot be used.
    #[error(transparent)]
    Connect(ClientError),
    /// The keeper could not be started.
    #[error("cannot start the keeper")]
    Spawn(#[source] io::Error),
    /// The keeper's pipe cannot be read.
    #[error("cannot tell whether the keeper has started")]
    Pipe(#[source] io::Error),
    /// The keeper said why it does not run.
    #[error("clmgr could not be started: {0}")]
    Failed(String),
    /// The keeper ended without a word.
    #[error("clmgr could not be started: the keeper ended without saying why; see `clmgr keeper` in the foreground")]
    Silent,
    /// The keeper is there, but nobody answered in time.
    #[error("clmgr is running, but nobody answers at {} after {} s", path.display(), PATIENCE / 1000)]
    NoAnswer {
        /// The socket.
        path: PathBuf,
    },
}

/// Connects, starting a keeper if none runs.
///
/// `spawn` starts one and returns the reading end of its ready pipe; `keeper_alive` tells whether the
/// lock is held.
///
/// # Errors
/// If the keeper does not start (with its own words), or nobody answers although it runs.
pub fn ensure_running(
    socket: &Path,
    spawn: &dyn Fn() -> io::Result<File>,
    keeper_alive: &dyn Fn() -> bool,
) -> Result<Client, LaunchError> {
    let mut waited = Waited::default();
    let mut started = false;
    loop {
        match Client::connect(socket) {
            Ok(client) => return Ok(client),
            Err(ClientError::NotRunning { .. }) => {}
            Err(error) => return Err(LaunchError::Connect(error)),
        }
        if !started && !keeper_alive() {
            match read_ready(spawn().map_err(LaunchError::Spawn)?)? {
                Verdict::Ready => {
                    started = true;
                    continue;
                }
                // The other one may still fail; then it is this one's turn.
                Verdict::AnotherWasFaster => {}
            }
        }
        if !waited.a_little() {
            return Err(LaunchError::NoAnswer {
                path: socket.to_owned(),
            });
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Ready,
    AnotherWasFaster,
}

fn read_ready(mut pipe: File) -> Result<Verdict, LaunchError> {
    let mut message = Vec::new();
    loop {
        let mut polled = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
        match poll(&mut polled, PollTimeout::from(SILENCE)) {
            Ok(0) => {
                return Err(LaunchError::Failed(format!(
                    "the keeper said nothing for {} s",
                    SILENCE / 1000
                )));
            }
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(LaunchError::Pipe(error.into())),
        }
        let mut chunk = [0; 512];
        match pipe.read(&mut chunk) {
            Ok(0) => break,
            Ok(length) => message.extend_from_slice(&chunk[..length]),
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
            Err(error) => return Err(LaunchError::Pipe(error)),
        }
        if message.len() as u64 > MAX_MESSAGE {
            break;
        }
    }
    let message = String::from_utf8_lossy(&message);
    match message.trim() {
        "" => Err(LaunchError::Silent),
        READY => Ok(Verdict::Ready),
        text if text.contains(ALREADY_RUNNING) => Ok(Verdict::AnotherWasFaster),
        text => Err(LaunchError::Failed(text.to_owned())),
    }
}

/// Waits that grow from 1 ms to 50 ms, [`PATIENCE`] in all.
#[derive(Debug, Default)]
struct Waited {
    total: u16,
    last: u16,
}

impl Waited {
    /// False when the patience is at an end.
    fn a_little(&mut self) -> bool {
        if self.total >= PATIENCE {
            return false;
        }
        self.last = (self.last * 2).clamp(1, 50);
        self.total += self.last;
        // A signal only makes this wait shorter.
        let _interrupted = poll(&mut [], PollTimeout::from(self.last));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{ALREADY_RUNNING, LaunchError, ensure_running};
    use crate::client::Client;
    use std::cell::{Cell, RefCell};
    use std::fs::File;
    use std::io::Write;
    use std::os::unix::net::UnixListener;

    fn pipe_with(text: &str) -> File {
        let (read, write) = nix::unistd::pipe().unwrap();
        File::from(write).write_all(text.as_bytes()).unwrap();
        File::from(read)
    }

    #[test]
    fn starts_a_keeper_only_if_nobody_answers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = RefCell::new(None);
        let spawned = Cell::new(0);
        let spawn = || {
            spawned.set(spawned.get() + 1);
            *listener.borrow_mut() = Some(UnixListener::bind(&path).unwrap());
            Ok(pipe_with("ready\n"))
        };
        for _ in 0..2 {
            ensure_running(&path, &spawn, &|| listener.borrow().is_some()).unwrap();
            assert_eq!(spawned.get(), 1);
        }
        // Only a stale socket is left of it.
        *listener.borrow_mut() = None;
        assert!(Client::connect(&path).is_err());
        nix::unistd::unlink(&path).unwrap();
        ensure_running(&path, &spawn, &|| false).unwrap();
        assert_eq!(spawned.get(), 2);
    }

    #[test]
    fn the_keeper_s_own_words_are_the_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let fails = |text: &'static str| ensure_running(&path, &|| Ok(pipe_with(text)), &|| false).unwrap_err();
        assert!(matches!(fails("cannot make /x: no room\n"), LaunchError::Failed(text) if text.contains("no room")));
        assert!(matches!(fails(""), LaunchError::Silent));
        let error = ensure_running(&path, &|| Err(std::io::Error::other("no")), &|| false).unwrap_err();
        assert!(matches!(error, LaunchError::Spawn(_)));
    }

    #[test]
    fn waits_for_the_one_that_was_faster_and_for_a_daemon_that_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        for keeper_first in [false, true] {
            let path = folder.path().join(if keeper_first { "a" } else { "b" });
            let asked = Cell::new(0);
            let listener = RefCell::new(None);
            // Alive from the second question on; listening from the fourth.
            let alive = || {
                asked.set(asked.get() + 1);
                if asked.get() == 4 {
                    *listener.borrow_mut() = Some(UnixListener::bind(&path).unwrap());
                }
                keeper_first || asked.get() > 1
            };
            let spawn = || {
                assert!(!keeper_first, "a second keeper was started");
                Ok(pipe_with(&format!("clmgr is {ALREADY_RUNNING} (pid 7)")))
            };
            ensure_running(&path, &spawn, &alive).unwrap();
        }
    }

    #[test]
    fn gives_up_on_a_keeper_whose_daemon_never_answers() {
        let path = std::path::Path::new("/nonexistent/clmgr.sock");
        let error = ensure_running(path, &|| unreachable!(), &|| true).unwrap_err();
        assert!(matches!(error, LaunchError::NoAnswer { .. }), "{error}");
    }

    #[test]
    fn a_path_that_is_too_long_is_an_error_of_its_own() {
        let path = std::path::PathBuf::from(format!("/tmp/{}", "x".repeat(200)));
        let error = ensure_running(&path, &|| unreachable!(), &|| false).unwrap_err();
        assert!(matches!(error, LaunchError::Connect(_)), "{error}");
    }
}
