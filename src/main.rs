//! Picks a role and maps its end to an exit code.
//!
//! `clmgr keeper [--ready-fd N]` and `clmgr daemon` are started by clmgr itself (`keeper --daemon-link N` by a
//! daemon whose keeper died, `keeper --runtime ARGS` in place of `clmgr runtime`, `service-stop` by a unit;
//! `keeper --check-state N`, `keeper --resume N --back N [--failed WHY]` and `handshake` by an upgrade); everything
//! else is the command line.

use std::error::Error;
use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::process::ExitCode;

use clmgr::cli::failure::chain;
use clmgr::keeper::{self, KeeperError, KeeperOptions, ResumeOptions, RuntimeOptions};
use clmgr::os::fds;
use clmgr::os::home::Home;
use clmgr::os::lock::LockError;
use clmgr::{cli, daemon, model};

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    let words: Vec<&str> = args.iter().skip(1).map_while(|word| word.to_str()).collect();
    match words.as_slice() {
        // Asked by scripts; needs no parser.
        ["--version" | "-V"] => version(),
        ["keeper"] => end("clmgr keeper", keep(None, None)),
        ["keeper", "--ready-fd", number] => end("clmgr keeper", keep(Some(number), None)),
        ["keeper", "--daemon-link", number] => end("clmgr keeper", keep(None, Some(number))),
        ["keeper", "--runtime", ..] => end("clmgr", keep_in_foreground(args.into_iter().skip(3).collect())),
        ["keeper", "--check-state", number] => check_state(number),
        ["keeper", "--resume", state, "--back", back] => end("clmgr keeper", resume(state, back, None)),
        ["keeper", "--resume", state, "--back", back, "--failed", why] => {
            end("clmgr keeper", resume(state, back, Some((*why).to_owned())))
        }
        ["handshake"] => handshake(),
        ["daemon"] => end("clmgr daemon", supervise().map(|()| 0)),
        // Run by a unit when it is stopped or restarted.
        ["service-stop"] => end("clmgr service-stop", leave(false)),
        ["service-stop", "--user"] => end("clmgr service-stop", leave(true)),
        _ => ExitCode::from(cli::run(args)),
    }
}

fn version() -> ExitCode {
    // With nobody to read it there is nothing to tell.
    let _ = writeln!(std::io::stdout(), "clmgr {}", model::version::version());
    ExitCode::SUCCESS
}

/// `clmgr runtime`, after its command line was checked.
fn keep_in_foreground(args: Vec<OsString>) -> Result<u8, Box<dyn Error>> {
    Ok(keeper::run(KeeperOptions {
        home: Home::discover()?,
        ready_fd: None,
        daemon_exe: std::env::current_exe()?,
        daemon_link: None,
        takes_stored: false,
        runtime: Some(RuntimeOptions { args }),
    })?)
}

fn keep(ready: Option<&str>, link: Option<&str>) -> Result<u8, Box<dyn Error>> {
    let ready_fd = ready.map(descriptor).transpose()?;
    let daemon_link = link.map(descriptor).transpose()?;
    let home = match Home::discover() {
        Ok(home) => home,
        Err(error) => {
            // Whoever started this keeper reads the reason.
            if let Some(ready) = ready_fd {
                let _ = writeln!(File::from(ready), "{}", chain(&error));
            }
            return Err(error.into());
        }
    };
    let code = keeper::run(KeeperOptions {
        home,
        ready_fd,
        daemon_exe: std::env::current_exe()?,
        takes_stored: daemon_link.is_none(),
        daemon_link,
        runtime: None,
    })?;
    Ok(code)
}

/// Goes on as the keeper that executed this program in its place.
fn resume(state: &str, back: &str, failed: Option<String>) -> Result<u8, Box<dyn Error>> {
    Ok(keeper::resume(ResumeOptions {
        home: Home::discover()?,
        daemon_exe: std::env::current_exe()?,
        state: descriptor(state)?,
        back: descriptor(back)?,
        failed,
    })?)
}

/// Asked by a keeper that is to be replaced by this build.
fn check_state(number: &str) -> ExitCode {
    let read = descriptor(number)
        .map_err(|error| error.to_string())
        .and_then(|state| keeper::check_state(state).map_err(|error| chain(&error)));
    match read {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            let _ = writeln!(std::io::stderr(), "{why}");
            ExitCode::FAILURE
        }
    }
}

/// Asked by a daemon that is to be replaced by this build.
fn handshake() -> ExitCode {
    match writeln!(std::io::stdout(), "{}", daemon::handshake()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn supervise() -> Result<(), Box<dyn Error>> {
    let number = |name| std::env::var(name).ok();
    let link = number(keeper::LINK_VAR)
        .ok_or("the daemon is started by its keeper; use another command, such as: clmgr resurrect")?;
    let ready = number(keeper::READY_VAR)
        .map(|number| descriptor(&number))
        .transpose()?;
    daemon::log_to_stderr();
    daemon::run(Home::discover()?, descriptor(&link)?, ready)?;
    Ok(())
}

/// A descriptor that was left open for us under this number.
fn descriptor(number: &str) -> Result<OwnedFd, Box<dyn Error>> {
    Ok(fds::inherited(number.parse()?)?)
}

/// What a unit runs before its keeper is ended.
fn leave(user: bool) -> Result<u8, Box<dyn Error>> {
    cli::boot::leave(user)?;
    Ok(0)
}

/// What goes wrong in a role is written to its log, which is its standard error.
fn end(role: &str, result: Result<u8, Box<dyn Error>>) -> ExitCode {
    let error = match result {
        Ok(code) => return ExitCode::from(code),
        Err(error) => error,
    };
    let _ = writeln!(std::io::stderr(), "{role}: {}", chain(&*error));
    match error.downcast_ref() {
        // A service manager tries anything else again.
        Some(KeeperError::Lock(LockError::Held { .. }) | KeeperError::Former { .. }) => {
            ExitCode::from(cli::exit::CONFLICT)
        }
        Some(KeeperError::Lock(_) | KeeperError::Home(_) | KeeperError::System { .. } | KeeperError::Handover(_))
        | None => ExitCode::FAILURE,
    }
}
