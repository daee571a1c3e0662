//! Picks a role and maps its end to an exit code.
//!
//! `clmgr keeper [--ready-fd N]` and `clmgr daemon` are started by clmgr itself (`keeper --daemon-link N` by a
//! daemon whose keeper died); everything else is the command line.

use std::error::Error;
use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::process::ExitCode;

use clmgr::cli::failure::chain;
use clmgr::keeper::{self, KeeperOptions};
use clmgr::os::fds;
use clmgr::os::home::Home;
use clmgr::{cli, daemon};

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    let words: Vec<&str> = args.iter().skip(1).map_while(|word| word.to_str()).collect();
    match words.as_slice() {
        // Asked by scripts; needs no parser.
        ["--version" | "-V"] => version(),
        ["keeper"] => end("keeper", keep(None, None)),
        ["keeper", "--ready-fd", number] => end("keeper", keep(Some(number), None)),
        ["keeper", "--daemon-link", number] => end("keeper", keep(None, Some(number))),
        ["daemon"] => end("daemon", supervise()),
        _ => ExitCode::from(cli::run(args)),
    }
}

fn version() -> ExitCode {
    // With nobody to read it there is nothing to tell.
    let _ = writeln!(std::io::stdout(), "clmgr {}", env!("CARGO_PKG_VERSION"));
    ExitCode::SUCCESS
}

fn keep(ready: Option<&str>, link: Option<&str>) -> Result<(), Box<dyn Error>> {
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
    keeper::run(KeeperOptions {
        home,
        ready_fd,
        daemon_exe: std::env::current_exe()?,
        daemon_link,
    })?;
    Ok(())
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

/// What goes wrong in a role is written to its log, which is its standard error.
fn end(role: &str, result: Result<(), Box<dyn Error>>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    let _ = writeln!(std::io::stderr(), "clmgr {role}: {}", chain(&*error));
    ExitCode::FAILURE
}
