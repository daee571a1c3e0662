//! What can go wrong with the state, in the user's words.

use std::path::PathBuf;

use crate::model::names::AppId;

/// Why the state could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be made or opened.
    #[error("cannot open the state file {}", path.display())]
    Create {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// SQLite cannot open or prepare the file.
    #[error("cannot {operation} in the state file {}", path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// What was being done.
        operation: &'static str,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// A newer program made it. The file was not touched.
    #[error(
        "the state file {} was written by clmgr {written_by} (schema {found}); this is clmgr {ours}, which knows schemas up to {known}. Use clmgr {written_by} or newer, or set CLMGR_HOME to another folder",
        path.display()
    )]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The newest schema known here.
        known: i64,
        /// The program that migrated it.
        written_by: String,
        /// This program's version.
        ours: String,
    },
    /// A sound database of some other program. The file was not touched.
    #[error(
        "{} is a database, but not one of clmgr; move it away, or set CLMGR_HOME to another folder",
        path.display()
    )]
    Foreign {
        /// Which file.
        path: PathBuf,
    },
    /// Another process has it open.
    #[error("the state file {} is in use by another process; is another clmgr daemon running?", path.display())]
    InUse {
        /// Which file.
        path: PathBuf,
    },
    /// A damaged file could not be put aside.
    #[error("the state file {} is damaged and cannot be moved aside", path.display())]
    MoveAside {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The thread could not be started.
    #[error("cannot start the store thread")]
    Thread(#[source] std::io::Error),
    /// No room on the disk; nothing was changed.
    #[error("the state cannot be written, the disk is full; free some space and try again")]
    Full,
    /// The file system does not take anything any more, whatever a single write says; nothing was changed.
    #[error(
        "the state cannot be written, its file system is read-only ({0}); mount it writable again, dmesg may say why it is not"
    )]
    ReadOnly(String),
    /// The disk, or the rights on it; nothing was changed.
    #[error("cannot {operation} the state")]
    Sqlite {
        /// What was being done.
        operation: &'static str,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// A change names an app that is not in the file; nothing was changed.
    #[error("the state knows no app with the id {0}")]
    UnknownApp(AppId),
    /// A value cannot be written as JSON; nothing was changed.
    #[error("cannot encode the state")]
    Encode(#[source] serde_json::Error),
    /// The thread has ended.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// The error of an operation on the open file.
    pub(crate) fn sqlite(operation: &'static str, source: rusqlite::Error) -> Self {
        if source.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull) {
            Self::Full
        } else {
            Self::Sqlite { operation, source }
        }
    }

    /// True if the disk is to blame, so that the same write can work later.
    pub(crate) fn is_outage(&self) -> bool {
        match self {
            Self::Full | Self::ReadOnly(_) => true,
            Self::Sqlite { source, .. } => !is_refusal(source),
            Self::Create { .. }
            | Self::Open { .. }
            | Self::Newer { .. }
            | Self::Foreign { .. }
            | Self::InUse { .. }
            | Self::MoveAside { .. }
            | Self::Thread(_)
            | Self::UnknownApp(_)
            | Self::Encode(_)
            | Self::Closed => false,
        }
    }
}

/// True if SQLite refuses this value and will refuse it again.
pub(crate) fn is_refusal(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{ConstraintViolation, TooBig, TypeMismatch};
    match error.sqlite_error_code() {
        Some(code) => matches!(code, ConstraintViolation | TooBig | TypeMismatch),
        None => true,
    }
}

/// True if the file's content, not the disk, is to blame.
pub(crate) fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
}
