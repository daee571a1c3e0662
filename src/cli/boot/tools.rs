//! The service manager's own commands. No shell is involved.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::cli::boot::place::Kind;
use crate::cli::failure::Failure;

/// What a tool said.
#[derive(Debug)]
pub(super) struct Said {
    pub ok: bool,
    pub out: String,
    pub err: String,
}

/// Runs a tool to its end. `None` if it is not installed.
pub(super) fn run(program: &str, args: &[&str]) -> Result<Option<Said>, Failure> {
    let mut command = Command::new(program);
    command
        .args(args)
        .stdin(Stdio::null())
        .env("SYSTEMD_PAGER", "")
        .env("LC_ALL", "C");
    let runtime = format!("/run/user/{}", rustix::process::getuid().as_raw());
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() && Path::new(&runtime).is_dir() {
        // Without a login, as after `su` or in a cron job, nobody has set it.
        command.env("XDG_RUNTIME_DIR", runtime);
    }
    match command.output() {
        Ok(output) => Ok(Some(Said {
            ok: output.status.success(),
            out: String::from_utf8_lossy(&output.stdout).trim().to_owned(),
            err: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        })),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::failed(format!("cannot run {program}: {error}"))),
    }
}

/// The same; it must be there and work.
pub(super) fn must(program: &str, args: &[&str]) -> Result<String, Failure> {
    let line = || format!("{program} {}", args.join(" "));
    match run(program, args)? {
        Some(said) if said.ok => Ok(said.out),
        Some(said) => {
            let why = if said.err.is_empty() { said.out } else { said.err };
            Err(Failure::failed(format!("{} failed: {why}", line())))
        }
        None => Err(Failure::failed(format!(
            "{} is not possible: {program} is not installed",
            line()
        ))),
    }
}

/// `systemctl` for the machine or for this user.
pub(super) fn systemctl(kind: Kind, args: &[&str]) -> Result<String, Failure> {
    must("systemctl", &scoped(kind, args))
}

/// The same, if a failure tells something, too.
pub(super) fn ask_systemctl(kind: Kind, args: &[&str]) -> Option<Said> {
    run("systemctl", &scoped(kind, args)).ok().flatten()
}

fn scoped<'a>(kind: Kind, args: &[&'a str]) -> Vec<&'a str> {
    let scope: &[&str] = if kind == Kind::SystemdUser { &["--user"] } else { &[] };
    scope.iter().chain(args).copied().collect()
}
