//! Where this user's manager keeps its files.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::os::{fsx, lock};

/// Longest path of a Unix socket, in bytes: `sun_path` has 108 with its NUL.
pub const MAX_SOCKET_PATH: usize = 107;

/// Where a runtime looks for a folder that can be written, in this order.
const BASES: &[&str] = &["/run", "/dev/shm", "/tmp"];

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
    /// A runtime finds no folder at all.
    #[error(
        "no folder can be written: tried {}; mount one there, or set CLMGR_HOME to one that can be", tried.join(", ")
    )]
    Nowhere {
        /// What was tried.
        tried: Vec<String>,
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
        let usual = Self::from_environment(&|name| std::env::var_os(name), rustix::process::geteuid().is_root());
        if is_given() {
            return usual;
        }
        // A runtime that could not write the usual folders is found where it went.
        let living = |home: &Self| lock::is_held(&home.lock());
        match Self::elsewhere(BASES).find(living) {
            Some(other) if !usual.as_ref().is_ok_and(living) => Ok(other),
            Some(_) | None => usual,
        }
    }

    /// The same for `clmgr runtime`, which needs no preparation: where the usual folders cannot be written (a
    /// read-only root, no HOME), a folder under /run, /dev/shm or /tmp; true in that case. The folders are made.
    ///
    /// # Errors
    /// `CLMGR_HOME` cannot be used, or no folder can.
    pub fn for_runtime() -> Result<(Self, bool), HomeError> {
        let usual = Self::from_environment(&|name| std::env::var_os(name), rustix::process::geteuid().is_root());
        let usable = usual.and_then(|home| home.create().and_then(|()| home.writable()).map(|()| home));
        match usable {
            Err(_) if !is_given() => Self::make_elsewhere(BASES).map(|home| (home, true)),
            result => result.map(|home| (home, false)),
        }
    }

    /// Those of [`BASES`] that are there, and are this user's alone.
    fn elsewhere(bases: &[&'static str]) -> impl Iterator<Item = Self> {
        let folders = bases.iter().map(|base| own_folder(base));
        folders
            .filter(|folder| is_private(folder))
            .filter_map(|folder| Self::under(&folder).ok())
    }

    fn make_elsewhere(bases: &[&'static str]) -> Result<Self, HomeError> {
        for base in bases {
            let folder = own_folder(base);
            // What others have made there is of no use, whatever it is.
            if !Path::new(base).is_dir() || fsx::create_dir_private(&folder).is_err() || !is_private(&folder) {
                continue;
            }
            let home = Self::under(&folder)?;
            if home.create().and_then(|()| home.writable()).is_ok() {
                return Ok(home);
            }
        }
        Err(HomeError::Nowhere {
            tried: bases
                .iter()
                .map(|base| own_folder(base).display().to_string())
                .collect(),
        })
    }

    fn writable(&self) -> Result<(), HomeError> {
        for path in [&self.state, &self.run, &self.logs] {
            rustix::fs::access(path, rustix::fs::Access::WRITE_OK).map_err(|errno| HomeError::Create {
                path: path.clone(),
                source: errno.into(),
            })?;
        }
        Ok(())
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

    /// The home of a manager with this environment, run by root or somebody else.
    ///
    /// # Errors
    /// As [`Home::discover`].
    pub fn from_environment(variable: &dyn Fn(&str) -> Option<OsString>, root: bool) -> Result<Self, HomeError> {
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

    /// The same with the folder of sockets that the keeper of this home uses, if one runs: it may have been started
    /// with another environment, by cron or as a service.
    #[must_use]
    pub fn located(mut self) -> Self {
        if let Some(folder) = lock::socket_of_holder(&self.lock()).as_deref().and_then(Path::parent)
            && folder != self.run
        {
            self.run = folder.to_owned();
        }
        self
    }

    /// A short text that tells homes apart: FNV-1a of the state folder's path. Every process of an app carries it.
    #[must_use]
    pub fn tag(&self) -> String {
        let hash = self
            .state
            .as_os_str()
            .as_bytes()
            .iter()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
            });
        format!("{hash:016x}")
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

    /// The folder for log bytes between pipe and file. They outlive the daemon, not the machine's boot.
    #[must_use]
    pub fn log_journal(&self) -> PathBuf {
        self.run.join("log-journal")
    }

    /// The folder that says when the bytes of log files were written, see `logs::times`.
    #[must_use]
    pub fn log_times(&self) -> PathBuf {
        self.logs.join(".times")
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

    /// Which process the daemon is, for a keeper whose predecessor has died.
    #[must_use]
    pub fn daemon_record(&self) -> PathBuf {
        self.state.join("daemon.pid")
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

/// `CLMGR_HOME` says where.
fn is_given() -> bool {
    std::env::var_os("CLMGR_HOME").is_some_and(|home| !home.is_empty())
}

fn own_folder(base: &str) -> PathBuf {
    Path::new(base).join(format!("clmgr-{}", rustix::process::geteuid().as_raw()))
}

/// A folder (no link) of this user that nobody else may enter.
fn is_private(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|meta| {
        meta.is_dir() && meta.uid() == rustix::process::geteuid().as_raw() && meta.mode() & 0o077 == 0
    })
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
    fn finds_a_keeper_that_was_started_with_another_environment() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().to_str().unwrap();
        let cron = from(&[("XDG_STATE_HOME", folder)], false).unwrap();
        let login = from(&[("XDG_STATE_HOME", folder), ("XDG_RUNTIME_DIR", "/r")], false).unwrap();
        cron.create().unwrap();
        assert_eq!(login.clone().located(), login, "nobody runs");
        let lock = crate::os::lock::acquire(&cron.lock()).unwrap();
        assert_eq!(login.clone().located(), login, "nothing is recorded");
        lock.record(&cron.socket()).unwrap();
        assert_eq!(login.clone().located(), cron);
        drop(lock);
        assert_eq!(login.clone().located(), login);
    }

    #[test]
    fn a_runtime_finds_a_folder_that_is_its_own() {
        let temp = tempfile::tempdir().unwrap();
        let base = |name: &str| -> &'static str { temp.path().join(name).to_str().unwrap().to_owned().leak() };
        let (missing, foreign, good) = (base("missing/x"), base("foreign"), base("good"));
        std::fs::DirBuilder::new().create(foreign).unwrap();
        std::fs::DirBuilder::new().create(good).unwrap();
        // A file in the way of the first, and a link to somewhere else in the second.
        crate::os::fsx::write_atomic(&temp.path().join("missing"), b"", 0o600).unwrap();
        std::os::unix::fs::symlink("/tmp", super::own_folder(foreign)).unwrap();
        assert!(
            matches!(Home::make_elsewhere(&[missing, foreign]), Err(HomeError::Nowhere { tried }) if tried.len() == 2)
        );
        assert_eq!(Home::elsewhere(&[missing, foreign, good]).count(), 0);
        let home = Home::make_elsewhere(&[missing, foreign, good]).unwrap();
        assert_eq!(home.state, super::own_folder(good));
        assert_eq!(Home::elsewhere(&[missing, foreign, good]).next(), Some(home));
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
