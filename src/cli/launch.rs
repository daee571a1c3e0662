//! Starts the keeper when none runs.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use crate::cli::boot;
use crate::cli::connect::failure;
use crate::cli::failure::{Failure, chain};
use crate::client::Client;
use crate::client::launch::{self, LaunchError};
use crate::model::duration::Millis;
use crate::os::home::Home;
use crate::os::{detach, fds, fsx, lock, poll, service};

/// Between two tries to connect.
const PAUSE: Millis = Millis(10);
/// So many are ten seconds.
const TRIES: u32 = 1_000;

/// Where the keeper finds the pipe in which it says that it is ready, or why it is not.
const READY_FD: i32 = 3;

/// Connects; starts keeper and daemon where none run.
///
/// # Errors
/// They do not start, with their own reason, or this user may not.
pub(crate) fn ensure_running(home: &Home) -> Result<Client, Failure> {
    if let Ok(client) = Client::connect(&home.socket()) {
        return Ok(client);
    }
    if !keeper_lives(home) && boot::start_enabled() {
        // Started with an environment of its own.
        return by_hand(&home.clone().located());
    }
    by_hand(home)
}

/// Connects to what is being restarted, and starts nothing: a keeper that is about to end in good order ends.
///
/// # Errors
/// The keeper lives, but nobody answers.
pub(crate) fn rejoin(home: &Home) -> Result<Option<Client>, Failure> {
    for _ in 0..TRIES {
        if let Ok(client) = Client::connect(&home.socket()) {
            return Ok(Some(client));
        }
        if !keeper_lives(home) {
            return Ok(None);
        }
        poll::pause(PAUSE);
    }
    by_hand(home).map(Some)
}

/// As [`ensure_running`], but a keeper that has to be started is a child of nobody's, not the service manager's.
pub(crate) fn by_hand(home: &Home) -> Result<Client, Failure> {
    let attempt = || launch::ensure_running(&home.socket(), &|| spawn(home), &|| keeper_lives(home));
    let result = match attempt() {
        // Another keeper was faster by a hair, or the daemon of ours died: it is waited for.
        Err(LaunchError::Silent) if keeper_lives(home) => attempt(),
        other => other,
    };
    result.map_err(|error| match error {
        LaunchError::Connect(error) => failure(error),
        error @ (LaunchError::Spawn(_)
        | LaunchError::Pipe(_)
        | LaunchError::Failed(_)
        | LaunchError::Silent
        | LaunchError::NoAnswer { .. }) => {
            let mut failure = Failure::unreachable(chain(&error));
            for folder in [&home.state, &home.run] {
                let read_only = fsx::space(folder).is_ok_and(|space| space.read_only);
                if read_only && keeper_lives(home) {
                    failure = failure.hint(format!(
                        "the file system of {} is read-only: apps go on, and clmgr answers again when it is writable",
                        folder.display()
                    ));
                    break;
                }
            }
            let log = home.own_log();
            if log.exists() {
                failure.hint(format!("its own log: {}", log.display()))
            } else {
                failure
            }
        }
    })
}

/// Somebody holds the lock of this home.
pub(crate) fn keeper_lives(home: &Home) -> bool {
    lock::is_held(&home.lock())
}

/// Starts `clmgr keeper` in a session of its own; returns the end of its ready pipe.
fn spawn(home: &Home) -> io::Result<File> {
    let other = |error: &dyn std::error::Error| io::Error::other(chain(error));
    home.create().map_err(|error| other(&error))?;
    let (reader, writer) = fds::pipe()?;
    // The keeper runs in `/`, where a relative CLMGR_HOME would mean another folder.
    // Nor does it belong to the app that may be running this command, and whose service this command is part of is no
    // business of the keeper's.
    let mut without = vec!["CLMGR_HOME", "CLMGR_RUN", "CLMGR_INSTANCE", "CLMGR_LEADER"];
    without.extend(service::VARIABLES);
    let mut env = detach::inherited_env(&without);
    if std::env::var_os("CLMGR_HOME").is_some_and(|home| !home.is_empty()) {
        env.push_parts(&[b"CLMGR_HOME=", home.state.as_os_str().as_bytes()]);
    }
    let args = ["keeper", "--ready-fd", "3"].map(OsStr::new);
    let extra = [(READY_FD, writer.as_fd())];
    let started = detach::spawn_detached(&std::env::current_exe()?, &args, env, &home.own_log(), &extra);
    started.map_err(|error| other(&error))?;
    Ok(File::from(reader))
}
