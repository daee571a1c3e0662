//! Picks a role and maps its end to an exit code.
//!
//! `clmgr keeper [--ready-fd N]` and `clmgr daemon` are started by clmgr itself; everything else is the
//! command line.

use std::error::Error;
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

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
    keeper::run(KeeperOptions {
        home: Home::discover()?,
        ready_fd,
        daemon_exe: std::env::current_exe()?,
    })?;
    Ok(())
}

fn supervise() -> Result<(), Box<dyn Error>> {
    daemon::run(Home::discover()?)?;
    Ok(())
}

/// What goes wrong in a role is written to its log, which is its standard error.
fn end(role: &str, result: Result<(), Box<dyn Error>>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    let mut text = format!("clmgr {role}: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    let _ = writeln!(std::io::stderr(), "{text}");
    ExitCode::FAILURE
}
