//! The steps between a plan and a running program, and how they fail.

use std::fmt;
use std::io;

/// A step of starting a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Step {
    /// The plan itself makes no sense: no program, or a descriptor number below zero.
    Plan = 1,
    /// Making the process.
    Clone = 2,
    /// Giving it its own table of descriptors.
    Unshare = 3,
    /// A new session.
    Session = 4,
    /// Placing its descriptors.
    Descriptors = 5,
    /// Entering its working folder.
    Chdir = 6,
    /// Setting its limit of open descriptors.
    Limits = 7,
    /// Executing the program.
    Exec = 8,
    /// Finding the interpreter that the program's first line names.
    Interpreter = 9,
}

impl Step {
    const ALL: [Self; 9] = [
        Self::Plan,
        Self::Clone,
        Self::Unshare,
        Self::Session,
        Self::Descriptors,
        Self::Chdir,
        Self::Limits,
        Self::Exec,
        Self::Interpreter,
    ];

    /// Its number on the wire.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The step with this number.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|step| step.code() == code)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Plan => "cannot make sense of the command",
            Self::Clone => "cannot create a process",
            Self::Unshare => "cannot separate its descriptors",
            Self::Session => "cannot begin a session",
            Self::Descriptors => "cannot place its descriptors",
            Self::Chdir => "cannot enter its working folder",
            Self::Limits => "cannot set its limits",
            Self::Exec => "cannot execute the program",
            Self::Interpreter => "cannot find the interpreter that the script's first line names",
        })
    }
}

/// A program that was not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{step}: {}", describe(*errno))]
pub struct SpawnError {
    /// What failed.
    pub step: Step,
    /// Why.
    pub errno: i32,
}

impl SpawnError {
    pub(crate) const fn new(step: Step, errno: i32) -> Self {
        Self { step, errno }
    }

    /// The machine has run out of something for now: processes, descriptors or memory. What was to be started has
    /// no part in it, and the same order can work later.
    #[must_use]
    pub const fn is_shortage(&self) -> bool {
        matches!(
            self.errno,
            libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE | libc::ENOBUFS
        )
    }
}

/// An error number in words, without the number, and in the terms of starting programs.
#[must_use]
pub fn describe(errno: i32) -> String {
    match errno {
        libc::ENOEXEC => "neither a program for this machine nor a script with a #! line".to_owned(),
        libc::ETXTBSY => "the file is being written".to_owned(),
        libc::E2BIG => "arguments and environment are too long".to_owned(),
        libc::EAGAIN => "the limit of processes is reached (pids.max, nproc or kernel.pid_max)".to_owned(),
        libc::EMFILE => "the limit of open files of the keeper is reached (nofile)".to_owned(),
        libc::ENFILE => "the machine's limit of open files is reached (fs.file-max)".to_owned(),
        libc::ENOMEM => "the machine is out of memory".to_owned(),
        _ => {
            let text = io::Error::from_raw_os_error(errno).to_string();
            let end = text.find(" (os error").unwrap_or(text.len());
            let mut words = text[..end].chars();
            words
                .next()
                .map_or_else(String::new, |first| first.to_lowercase().chain(words).collect())
        }
    }
}

pub(super) fn last_errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}
