//! Why a command did not do what was asked, and what the exit code is.

use std::fmt;
use std::io;

use crate::api::error::{ErrorBody, ErrorKind};
use crate::api::operation::{InstanceResult, OperationReply};
use crate::cli::exit;
use crate::config::Diagnostics;

/// An error as the user sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// What the process exits with.
    pub code: u8,
    /// Operation, object, cause. Empty when everything was said already or there is nobody to tell.
    pub message: String,
    /// Next steps.
    pub hints: Vec<String>,
    /// What was done, when part of it was tried.
    pub results: Vec<InstanceResult>,
    /// `message` says `error:` itself, and more: a rendered list of problems.
    pub rendered: bool,
    /// The daemon said it, or said something that is not understood: its version may be the reason.
    pub from_daemon: bool,
    /// Its name in `--json`.
    kind: &'static str,
}

impl Failure {
    fn with(code: u8, kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            hints: Vec::new(),
            results: Vec::new(),
            rendered: false,
            from_daemon: false,
            kind,
        }
    }

    /// It was tried and did not work.
    #[must_use]
    pub fn failed(message: impl Into<String>) -> Self {
        Self::with(exit::FAILED, "failed", message)
    }

    /// What was typed, or a file, makes no sense.
    #[must_use]
    pub fn usage(message: impl Into<String>) -> Self {
        Self::with(exit::USAGE, "bad_request", message)
    }

    /// Problems of a file, already laid out for people.
    #[must_use]
    pub fn diagnostics(diagnostics: &Diagnostics) -> Self {
        Self {
            rendered: true,
            ..Self::usage(diagnostics.render(false))
        }
    }

    /// Nothing of that name.
    #[must_use]
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::with(exit::NOT_FOUND, "not_found", message)
    }

    /// Nobody answers.
    #[must_use]
    pub fn unreachable(message: impl Into<String>) -> Self {
        Self::with(exit::UNREACHABLE, "unavailable", message)
    }

    /// This user may not.
    #[must_use]
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::with(exit::FORBIDDEN, "forbidden", message)
    }

    /// Ctrl-C.
    #[must_use]
    pub fn interrupted(message: impl Into<String>) -> Self {
        Self::with(exit::INTERRUPTED, "interrupted", message)
    }

    /// The reader of our output went away: not an error, only an end.
    #[must_use]
    pub fn closed_pipe() -> Self {
        Self::with(exit::OK, "closed_pipe", "")
    }

    /// Everything was said already; only the exit code is left.
    #[must_use]
    pub fn said(code: u8) -> Self {
        Self::with(code, "failed", "")
    }

    /// The same with a next step.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// The same of a command of which a part was done before.
    #[must_use]
    pub fn after(mut self, done: &OperationReply) -> Self {
        let failed = std::mem::replace(&mut self.results, done.results.clone());
        self.results.extend(failed);
        self
    }

    /// Nothing is to be written about it.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.message.is_empty()
    }

    /// As in an answer of the daemon.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({ "error": {
            "kind": self.kind, "message": self.message, "hints": self.hints, "results": self.results,
        }})
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<ErrorBody> for Failure {
    fn from(body: ErrorBody) -> Self {
        Self {
            code: body.kind.exit_code(),
            message: body.message,
            hints: body.hints,
            results: body.results,
            rendered: false,
            from_daemon: true,
            kind: match body.kind {
                ErrorKind::BadRequest => "bad_request",
                ErrorKind::NotFound => "not_found",
                ErrorKind::Conflict => "conflict",
                ErrorKind::Failed => "failed",
                ErrorKind::Forbidden => "forbidden",
                ErrorKind::TooLarge => "too_large",
                ErrorKind::Storage => "storage",
                ErrorKind::Unavailable => "unavailable",
                ErrorKind::Internal => "internal",
            },
        }
    }
}

/// For writes to the terminal.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::closed_pipe();
        }
        Self::failed(format!("cannot write the output: {error}"))
    }
}

/// An error and its causes in one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
