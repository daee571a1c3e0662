//! Why a keeper did not start.

use std::io;

use crate::os::home::HomeError;
use crate::os::lock::LockError;
use crate::os::signals;

/// Failures of start-up. Later there are none.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// Another keeper has this home.
    #[error("cannot start a keeper for this home")]
    Lock(#[from] LockError),
    /// The home was removed under another keeper, which lives and has apps.
    #[error(
        "the keeper of a former home in this place still runs as process {pid}, with its apps; stop them with `kill {pid}`, then try again"
    )]
    Former {
        /// Who.
        pid: i32,
    },
    /// The folders cannot be made.
    #[error("cannot prepare the home")]
    Home(#[from] HomeError),
    /// What the build before knew cannot be understood.
    #[error("{0}")]
    Handover(String),
    /// A system call that start-up needs.
    #[error("cannot {doing}")]
    System {
        /// What it was for.
        doing: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

impl KeeperError {
    pub(super) fn system<E: Into<io::Error>>(doing: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::System {
            doing,
            source: source.into(),
        }
    }
}

/// The signals a keeper reads instead of being interrupted.
pub(super) fn block_signals() -> Result<signals::Signals, KeeperError> {
    signals::ignore(&[libc::SIGPIPE]).map_err(KeeperError::system("ignore SIGPIPE"))?;
    let handled = [
        libc::SIGCHLD,
        libc::SIGTERM,
        libc::SIGINT,
        libc::SIGQUIT,
        libc::SIGHUP,
        libc::SIGUSR1,
        libc::SIGUSR2,
    ];
    signals::Signals::block(&handled).map_err(KeeperError::system("block signals"))
}
