//! Picks a role and maps its end to an exit code.
//!
//! `clmgr keeper [--ready-fd N]` and `clmgr daemon` are started by clmgr itself; everything else is the
//! command line.

use std::error::Error;
use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::process::ExitCode;

use clmgr::cli::failure::chain;
use clmgr::client::launch::ALREADY_RUNNING;
use clmgr::keeper::{self, KeeperOptions};
use clmgr::os::home::Home;
use clmgr::os::{fds, lock};
use clmgr::{cli, daemon};

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    let words: Vec<&str> = args.iter().skip(1).map_while(|word| word.to_str()).collect();
    match words.as_slice() {
        // Asked by scripts; needs no parser.
        ["--version" | "-V"] => version(),
        ["keeper"] => end("keeper", keep(None)),
        ["keeper", "--ready-fd", number] => end("keeper", keep(Some(number))),
        ["daemon"] => end("daemon", supervise()),
        _ => ExitCode::from(cli::run(args)),
    }
}

fn version() -> ExitCode {
    // With nobody to read it there is nothing to tell.
    let _ = writeln!(std::io::stdout(), "clmgr {}", env!("CARGO_PKG_VERSION"));
    ExitCode::SUCCESS
}

fn keep(ready: Option<&str>) -> Result<(), Box<dyn Error>> {
    let ready_fd = ready
        .map(|number| Ok::<_, Box<dyn Error>>(fds::inherited(number.parse()?)?))
        .transpose()?;
    let home = match prepare() {
        Ok(home) => home,
        Err(error) => {
            // Whoever started this keeper reads the reason.
            if let Some(ready) = ready_fd {
                let _ = writeln!(File::from(ready), "{}", chain(&*error));
            }
            return Err(error);
        }
    };
    keeper::run(KeeperOptions {
        home,
        ready_fd,
        daemon_exe: std::env::current_exe()?,
    })?;
    Ok(())
}

/// What fails most often is tried before the keeper takes the ready pipe: folders that cannot be made, and
/// a keeper that is there already. (It looks again by itself.)
fn prepare() -> Result<Home, Box<dyn Error>> {
    let home = Home::discover()?;
    home.create()?;
    match lock::acquire(&home.lock()) {
        Err(error @ lock::LockError::Held { .. }) => Err(format!("clmgr is {ALREADY_RUNNING}: {error}").into()),
        Err(error) => Err(error.into()),
        Ok(_) => Ok(home),
    }
}

fn supervise() -> Result<(), Box<dyn Error>> {
    daemon::run(Home::discover()?)?;
    Ok(())
}

/// What goes wrong in a role is written to its log, which is its standard error.
fn end(role: &str, result: Result<(), Box<dyn Error>>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    let _ = writeln!(std::io::stderr(), "clmgr {role}: {}", chain(&*error));
    ExitCode::FAILURE
}
