//! In the foreground, for containers: this process becomes the keeper, with everything that `start` takes.
//!
//! ```text
//!  clmgr runtime FILE ─► checks the command line and the file ─► chooses a home ─► exec: clmgr keeper --runtime …
//!  keeper ─► clmgr runtime FILE, step "start" ─► waits for the daemon, starts the apps, ends
//!         ─► clmgr runtime FILE, step "reload" (SIGHUP) ─► reads the file again, does what changed, ends
//! ```

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use clap::{Args, ValueEnum};

use crate::api::operation::OperationReply;
use crate::api::routes;
use crate::api::status::StatusReply;
use crate::cli::commands::start::{self, StartArgs};
use crate::cli::connect::Daemon;
use crate::cli::context::Context;
use crate::cli::failure::{Failure, chain};
use crate::cli::render::results;
use crate::cli::ui::Ui;
use crate::cli::{exit, launch, report};
use crate::client::launch::READY;
use crate::model::runtime::{Output, RELOAD, RUNTIME_VAR, RuntimeSpec, START, STEP_FD, STEP_VAR};
use crate::os::home::Home;
use crate::os::{clock, detach, fds};

/// For the help text.
pub const EXAMPLES: &str = "Examples:
  clmgr runtime ecosystem.toml           # as the command of a container
  clmgr runtime ecosystem.toml --env production --health 0.0.0.0:9000
  clmgr runtime server.js -i 4 --output json
  clmgr runtime ecosystem.toml --exit-on-error

SIGTERM, SIGINT, SIGQUIT: stop everything gracefully (three within 5 s: kill everything). SIGHUP: read the file again.
Exit code: 0 after a signal (1 if an app had to be killed); the app's own when the only instance of the only app has
ended for good; 0 or 1 when several have; 1 with --exit-on-error and an open circuit.
In a second shell in the container status, logs, scale and all other commands work as usual.";

/// `runtime`.
#[derive(Clone, Debug, Args)]
pub struct RuntimeArgs {
    #[command(flatten)]
    pub start: StartArgs,
    /// Stop everything and fail when an app's circuit opens
    #[arg(long, help_heading = "Options for a container")]
    pub exit_on_error: bool,
    /// What output looks like: raw, prefix (`app:0 | …`) or json; prefix with more than one app, else raw
    #[arg(
        long,
        value_name = "FORM",
        hide_possible_values = true,
        help_heading = "Options for a container"
    )]
    pub output: Option<OutputForm>,
    /// Serve /health (and nothing else) over TCP; a port alone is one of 127.0.0.1
    #[arg(long, value_name = "ADDR:PORT", value_parser = address, help_heading = "Options for a container")]
    pub health: Option<SocketAddr>,
    /// No colours in prefixes
    #[arg(long, help_heading = "Options for a container")]
    pub no_color: bool,
}

/// `--output`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutputForm {
    /// Lines as the app wrote them.
    Raw,
    /// `app:0 | ` before each line.
    Prefix,
    /// One JSON object a line.
    Json,
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let loopback = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    text.parse()
        .or_else(|_| text.trim_start_matches(':').parse().map(loopback))
        .map_err(|_| "an address and a port, such as 0.0.0.0:9000".to_owned())
}

pub(crate) fn run(args: &RuntimeArgs, context: &mut Context) -> Result<(), Failure> {
    match std::env::var(STEP_VAR).as_deref() {
        Ok(START) => begin(args, context),
        Ok(RELOAD) => reload(args, context),
        Ok(_) | Err(_) => become_keeper(args, context),
    }
}

fn become_keeper(args: &RuntimeArgs, context: &mut Context) -> Result<(), Failure> {
    if args.start.what.iter().any(|word| word == "-") {
        return Err(
            Failure::usage("runtime cannot read standard input: SIGHUP reads the file again")
                .hint("put the text into a file, or mount one"),
        );
    }
    start::fresh(&args.start)?;
    let (home, elsewhere) = Home::for_runtime().map_err(|error| Failure::failed(chain(&error)))?;
    if elsewhere {
        context.ui.note(&format!(
            "clmgr: the usual folders cannot be written; state, logs and socket are in {}",
            home.state.display()
        ));
    }
    if launch::keeper_lives(&home) {
        return Err(
            Failure::failed(format!("clmgr runs in {} already", home.state.display()))
                .hint("clmgr kill stops it")
                .hint("CLMGR_HOME=FOLDER clmgr runtime … runs another one"),
        );
    }
    let spec = RuntimeSpec {
        output: args.output.map_or(Output::Auto, |form| match form {
            OutputForm::Raw => Output::Raw,
            OutputForm::Prefix => Output::Prefix,
            OutputForm::Json => Output::Json,
        }),
        colour: context.ui.is_coloured() && !args.no_color,
        exit_on_error: args.exit_on_error,
        health: args.health,
    };
    let mut env = vec![(RUNTIME_VAR, OsString::from(spec.to_text()))];
    if elsewhere || std::env::var_os("CLMGR_HOME").is_some() {
        env.push(("CLMGR_HOME", home.state.clone().into()));
    }
    let mut words: Vec<OsString> = vec!["keeper".into(), "--runtime".into()];
    words.extend(std::env::args_os().skip(1));
    context.ui.flush()?;
    let error = detach::become_program(&std::env::current_exe()?, &words, &env);
    Err(Failure::failed(format!("cannot become the keeper: {error}")))
}

/// The first step: everything that the command line names.
fn begin(args: &RuntimeArgs, context: &mut Context) -> Result<(), Failure> {
    context.ui = own_voice(args);
    let said = fds::inherited(STEP_FD).map_or_else(|_| String::new(), |pipe| read_all(File::from(pipe)));
    match said.trim() {
        // Nothing: the first daemon died without a word, and the next one is waited for.
        "" | READY => {}
        why => return Err(Failure::failed(format!("clmgr could not be started: {why}"))),
    }
    for part in start::fresh(&args.start)? {
        match part.start(&args.start, context) {
            Ok(_) => {}
            // They are known now, and the restart law goes on with them.
            Err(failure) if !failure.results.is_empty() => {
                let _told = report::failure(context, &failure);
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(())
}

/// SIGHUP: what changed in the files. Errors are told; nothing else comes of them.
fn reload(args: &RuntimeArgs, context: &mut Context) -> Result<(), Failure> {
    context.ui = own_voice(args);
    match changed(args, context) {
        Ok(reply) => {
            for line in results::lines(&reply.results) {
                context.ui.line(line)?;
            }
            Ok(())
        }
        Err(failure) => {
            let _told = report::failure(context, &failure);
            if failure.results.is_empty() {
                context.ui.note("nothing was changed");
            }
            Err(Failure::said(exit::FAILED))
        }
    }
}

fn changed(args: &RuntimeArgs, context: &mut Context) -> Result<OperationReply, Failure> {
    let parts = start::fresh(&args.start)?;
    let named: Vec<_> = parts.iter().flat_map(start::Prepared::names).collect();
    let status: StatusReply = Daemon::start()?.get(routes::STATUS, &[])?;
    for app in status.apps.iter().filter(|app| !named.contains(&app.name)) {
        let text = format!(
            "{} is not in the file (any more); it goes on: clmgr delete {}",
            app.name, app.name
        );
        context.ui.note(&text);
    }
    let mut reply = OperationReply::default();
    for part in parts {
        reply.results.extend(part.start(&args.start, context)?.results);
    }
    Ok(reply)
}

fn read_all(mut pipe: File) -> String {
    let mut text = Vec::new();
    // What cannot be read was not said.
    let _read = pipe.read_to_end(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// Everything on standard error, each line after `clmgr: ` or as JSON.
fn own_voice(args: &RuntimeArgs) -> Ui {
    let one = || {
        Box::new(Marked {
            json: args.output == Some(OutputForm::Json),
            line: Vec::new(),
        })
    };
    Ui::plain(one(), one())
}

/// Standard error, line by line. A line is one write, so that it is not mixed with an app's.
struct Marked {
    json: bool,
    line: Vec<u8>,
}

impl Marked {
    fn end_line(&mut self) -> io::Result<()> {
        let text = String::from_utf8_lossy(&self.line);
        let line = if self.json {
            let time = clock::wall().to_string();
            format!(
                "{}\n",
                serde_json::json!({ "time": time, "stream": "clmgr", "message": text })
            )
        } else {
            format!("clmgr: {text}\n")
        };
        self.line.clear();
        io::stderr().write_all(line.as_bytes())
    }
}

impl Write for Marked {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(line);
            if self.line.pop_if(|last| *last == b'\n').is_some() {
                self.end_line()?;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::address;

    #[test]
    fn a_port_alone_is_a_loopback_one() {
        assert_eq!(address("9000").unwrap().to_string(), "127.0.0.1:9000");
        assert_eq!(address(":9000").unwrap().to_string(), "127.0.0.1:9000");
        assert_eq!(address("0.0.0.0:80").unwrap().to_string(), "0.0.0.0:80");
        assert_eq!(address("[::]:80").unwrap().to_string(), "[::]:80");
        assert!(address("localhost").is_err() && address("1.2.3.4").is_err() && address("70000").is_err());
    }
}
