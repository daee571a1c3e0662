//! Starting a process that outlives this one: how the CLI starts the keeper.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::os::cstrings::CStrings;
use crate::os::spawn::{SpawnError, SpawnPlan, Spawned, spawn};
use crate::os::{fds, fsx};

/// Why it was not started.
#[derive(Debug, thiserror::Error)]
pub enum DetachError {
    /// Its log file cannot be opened.
    #[error("cannot open the log file {path:?}")]
    Log {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// `/dev/null` cannot be opened.
    #[error("cannot open /dev/null")]
    Null(#[source] io::Error),
    /// The program was not executed.
    #[error("cannot start {program:?}")]
    Spawn {
        /// The program.
        program: PathBuf,
        /// The cause.
        #[source]
        source: SpawnError,
    },
}

/// Starts `exe args…` in a session of its own with nothing of ours but `env`: standard input is
/// `/dev/null`, standard output and error are appended to `log`, and `extra` descriptors are placed at the
/// numbers given. It runs in `/`, so it keeps no file system busy.
///
/// # Errors
/// A file cannot be opened, or the program cannot be executed.
pub fn spawn_detached(
    exe: &Path,
    args: &[&OsStr],
    env: CStrings,
    log: &Path,
    extra: &[(i32, BorrowedFd<'_>)],
) -> Result<Spawned, DetachError> {
    let out = fsx::open_append(log, 0o600).map_err(|source| DetachError::Log {
        path: log.to_owned(),
        source,
    })?;
    let null = fds::null().map_err(DetachError::Null)?;
    let mut argv = CStrings::from_iter([exe.as_os_str().as_bytes()]);
    for arg in args {
        argv.push(arg.as_bytes());
    }
    let mut plan = SpawnPlan::new(argv, env);
    plan.cwd = Some(c"/".to_owned());
    plan.fds = vec![(0, null.as_fd()), (1, out.as_fd()), (2, out.as_fd())];
    plan.fds.extend_from_slice(extra);
    spawn(&plan).map_err(|source| DetachError::Spawn {
        program: exe.to_owned(),
        source,
    })
}

/// Replaces this process by `exe args…`, with these variables besides its own. Returns only if that fails.
pub fn become_program(exe: &Path, args: &[std::ffi::OsString], env: &[(&str, std::ffi::OsString)]) -> io::Error {
    use std::os::unix::process::CommandExt;
    let env = env.iter().map(|(name, value)| (*name, value.as_os_str()));
    std::process::Command::new(exe).args(args).envs(env).exec()
}

/// This process's environment without the variables named.
#[must_use]
pub fn inherited_env(without: &[&str]) -> CStrings {
    let mut env = CStrings::new();
    for (name, value) in std::env::vars_os() {
        if !without.iter().any(|other| name == *other) {
            env.push_parts(&[name.as_bytes(), b"=", value.as_bytes()]);
        }
    }
    env
}

#[cfg(test)]
mod tests {
    use super::{DetachError, inherited_env, spawn_detached};
    use crate::model::duration::Millis;
    use crate::os::{cstrings::CStrings, fds, poll};
    use std::ffi::OsStr;
    use std::os::fd::AsFd;
    use std::path::Path;

    #[test]
    fn writes_to_its_log_and_gets_its_descriptor() {
        let temp = tempfile::tempdir().unwrap();
        let log = temp.path().join("log");
        crate::os::fsx::write_atomic(&log, "before\n".as_bytes(), 0o600).unwrap();
        let (read, write) = fds::pipe().unwrap();
        let script = "echo $X $(pwd); echo err >&2; echo ready >&3";
        let args = ["-c", script].map(OsStr::new);
        let env = CStrings::from_iter(["X=y"]);
        let child = spawn_detached(Path::new("/bin/sh"), &args, env, &log, &[(3, write.as_fd())]).unwrap();
        drop(write);
        assert!(poll::readable(&read, Millis::from_secs(10)).unwrap());
        assert!(poll::readable(&child.pidfd, Millis::from_secs(10)).unwrap());
        assert!(crate::os::reap::one(child.pid).unwrap().unwrap().exit.is_success());
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "before\ny /\nerr\n");
        let error = spawn_detached(Path::new("/none"), &[], CStrings::new(), &log, &[]).unwrap_err();
        assert!(matches!(error, DetachError::Spawn { .. }));
        assert_eq!(inherited_env(&["PATH"]).value_of(b"PATH"), None);
    }
}
