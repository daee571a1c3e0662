//! What can go wrong between the CLI and the daemon.

use std::path::PathBuf;

use crate::api::error::ErrorBody;

/// After this long without an answer the daemon is asked whether it is there, and is given as long to say so.
pub(crate) const SILENCE: std::time::Duration = std::time::Duration::from_secs(10);

/// Why a request has no answer, or a no for an answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("clmgr is not running (nobody answers at {})", path.display())]
    NotRunning {
        /// The socket.
        path: PathBuf,
        /// The socket is there, but whoever made it is gone.
        stale: bool,
    },
    /// The socket, or the daemon, does not let this user in.
    #[error("{0}")]
    Refused(String),
    /// The socket cannot be used.
    #[error("cannot use the control socket {}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The daemon said no.
    #[error("{}", .0.message)]
    Api(Box<ErrorBody>),
    /// The connection ended in the middle of an answer.
    #[error("the daemon went away before its answer was complete")]
    Interrupted(#[source] hyper::Error),
    /// A daemon that is being replaced did not begin with the request. The next one may be asked.
    #[error("the daemon is being replaced by another one")]
    Replaced,
    /// The connection was made, but nobody serves it: the daemon hangs, or cannot be started again.
    #[error("clmgr is running, but its daemon has not answered at {} for {} s", path.display(), SILENCE.as_secs() * 2)]
    Silent {
        /// The socket.
        path: PathBuf,
    },
    /// No answer within the deadline.
    #[error("the daemon did not answer in time")]
    TimedOut,
    /// Something that is not clmgr's daemon answers.
    #[error("what answers at {} is not a clmgr daemon: {what}", path.display())]
    NotOurs {
        /// The socket.
        path: PathBuf,
        /// What is wrong with the answer.
        what: String,
    },
    /// The answer cannot be read by this version.
    #[error("the daemon's answer is not understood; is it of another version?")]
    Decode(#[source] serde_json::Error),
    /// The request cannot be written.
    #[error("cannot encode the request")]
    Encode(#[source] serde_json::Error),
    /// A line of a stream is longer than [`crate::client::Client::MAX_LINE`].
    #[error("the daemon sent a line that is too long")]
    LineTooLong,
}
