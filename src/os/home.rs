//! Where this user's manager keeps its files.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::os::fsx;

/// Longest path of a Unix socket, in bytes: `sun_path` has 108 with its NUL.
pub const MAX_SOCKET_PATH: usize = 107;

/// The folders of one manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    /// Database and lock.
    pub state: PathBuf,
    /// Control socket.
    pub run: PathBuf,
    /// Log files.
    pub logs: PathBuf,
}

/// Why there is no home.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// Neither `CLMGR_HOME` nor `HOME`.
    #[error("cannot tell where to keep state: HOME is not set; set CLMGR_HOME to a folder")]
    NoHome,
    /// No absolute path can be made of `CLMGR_HOME`.
    #[error("cannot make {path:?} an absolute path; set CLMGR_HOME to an absolute folder")]
    Relative {
        /// As given.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A socket's path does not fit the kernel's structure.
    #[error(
        "the socket path {path:?} has {length} bytes, but a Unix socket path can have {MAX_SOCKET_PATH} at most; set CLMGR_HOME to a shorter folder"
    )]
    SocketPathTooLong {
        /// The path.
        path: PathBuf,
        /// Its length in bytes.
        length: usize,
    },
    /// A folder cannot be made.
    #[error("cannot create the folder {path:?}")]
    Create {
        /// The folder.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

impl Home {
    /// By `CLMGR_HOME`, else by user: see the table "Files" of the design.
    ///
    /// # Errors
    /// No folder can be told, or its socket path would be too long.
    pub fn discover() -> Result<Self, HomeError> {
        Self::from_environment(&|name| std::env::var_os(name), rustix::process::geteuid().is_root())
    }

    /// All files under one folder, as with `CLMGR_HOME`.
    ///
    /// # Errors
    /// The path is relative and there is no current folder, or its socket path would be too long.
    pub fn under(folder: &Path) -> Result<Self, HomeError> {
        let state = std::path::absolute(folder).map_err(|source| HomeError::Relative {
            path: folder.to_owned(),
            source,
        })?;
        Self {
            run: state.clone(),
            logs: state.join("logs"),
            state,
        }
        .checked()
    }

    fn from_environment(variable: &dyn Fn(&str) -> Option<OsString>, root: bool) -> Result<Self, HomeError> {
        let folder = |name| {
            variable(name)
                .map(PathBuf::from)
                .filter(|path| !path.as_os_str().is_empty())
        };
        if let Some(home) = folder("CLMGR_HOME") {
            return Self::under(&home);
        }
        if root {
            return Ok(Self {
                state: "/var/lib/clmgr".into(),
                run: "/run/clmgr".into(),
                logs: "/var/log/clmgr".into(),
            });
        }
        // The XDG rules: a relative path in one of these variables is to be ignored.
        let xdg = |name| folder(name).filter(|path| path.is_absolute());
        let state = match (xdg("XDG_STATE_HOME"), folder("HOME")) {
            (Some(state), _) => state,
            (None, Some(home)) => home.join(".local/state"),
            (None, None) => return Err(HomeError::NoHome),
        }
        .join("clmgr");
        Self {
            run: xdg("XDG_RUNTIME_DIR").map_or_else(|| state.clone(), |run| run.join("clmgr")),
            logs: state.join("logs"),
            state,
        }
        .checked()
    }

    fn checked(self) -> Result<Self, HomeError> {
        let path = self.notify_socket();
        let length = path.as_os_str().as_bytes().len();
        if length > MAX_SOCKET_PATH {
            return Err(HomeError::SocketPathTooLong { path, length });
        }
        Ok(self)
    }

    /// The control socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.run.join("clmgr.sock")
    }

    /// Where apps say that they are ready. The longest path of a socket.
    #[must_use]
    pub fn notify_socket(&self) -> PathBuf {
        self.run.join("notify.sock")
    }

    /// The database.
    #[must_use]
    pub fn db(&self) -> PathBuf {
        self.state.join("clmgr.db")
    }

    /// The keeper's lock.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.state.join("clmgr.lock")
    }

    /// Says that a manager is at work, beside the lock; see [`os::running`](crate::os::running).
    #[must_use]
    pub fn running(&self) -> PathBuf {
        self.state.join("clmgr.running")
    }

    /// What keeper and daemon themselves have to say.
    #[must_use]
    pub fn own_log(&self) -> PathBuf {
        self.logs.join("clmgr.log")
    }

    /// Makes the folders that are missing, each for its owner only (0700).
    ///
    /// # Errors
    /// A folder cannot be made.
    pub fn create(&self) -> Result<(), HomeError> {
        for path in [&self.state, &self.run, &self.logs] {
            fsx::create_dir_private(path).map_err(|source| HomeError::Create {
                path: path.clone(),
                source,
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Home, HomeError};
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    fn from(pairs: &[(&str, &str)], root: bool) -> Result<Home, HomeError> {
        Home::from_environment(
            &|name| {
                pairs
                    .iter()
                    .find(|(key, _)| *key == name)
                    .map(|(_, value)| value.into())
            },
            root,
        )
    }

    #[test]
    fn follows_the_table() {
        let home = from(&[("CLMGR_HOME", "/x"), ("HOME", "/h")], true).unwrap();
        assert_eq!(home.socket(), Path::new("/x/clmgr.sock"));
        assert_eq!(home.logs, Path::new("/x/logs"));
        let home = from(&[("HOME", "/h"), ("XDG_STATE_HOME", "/s")], true).unwrap();
        assert_eq!(home.db(), Path::new("/var/lib/clmgr/clmgr.db"));
        let home = from(&[("HOME", "/h"), ("CLMGR_HOME", "")], false).unwrap();
        assert_eq!(home.state, Path::new("/h/.local/state/clmgr"));
        assert_eq!(home.run, home.state);
        let home = from(&[("XDG_STATE_HOME", "/s"), ("XDG_RUNTIME_DIR", "/r")], false).unwrap();
        assert_eq!(
            (home.state.as_path(), home.run.as_path()),
            (Path::new("/s/clmgr"), Path::new("/r/clmgr"))
        );
        let home = from(&[("HOME", "/h"), ("XDG_STATE_HOME", "relative")], false).unwrap();
        assert_eq!(home.state, Path::new("/h/.local/state/clmgr"));
        assert!(matches!(from(&[], false), Err(HomeError::NoHome)));
        assert!(from(&[("CLMGR_HOME", "sub")], false).unwrap().state.is_absolute());
    }

    #[test]
    fn refuses_a_path_the_kernel_cannot_bind() {
        // "/notify.sock" has 12 bytes.
        assert!(Home::under(Path::new(&format!("/{}", "x".repeat(94)))).is_ok());
        let error = Home::under(Path::new(&format!("/{}", "x".repeat(95))))
            .unwrap_err()
            .to_string();
        assert!(error.contains("CLMGR_HOME") && error.contains("107"), "{error}");
    }

    #[test]
    fn makes_private_folders() {
        let temp = tempfile::tempdir().unwrap();
        let home = Home::under(&temp.path().join("a/b")).unwrap();
        home.create().unwrap();
        home.create().unwrap();
        let mode = std::fs::metadata(&home.logs).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }
}
