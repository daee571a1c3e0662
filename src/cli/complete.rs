//! Completion while typing. The shell's script calls `clmgr` with `COMPLETE` set; app names are asked from
//! a daemon that runs, with a deadline, and it is never started for this.

use std::ffi::{OsStr, OsString};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use clap::CommandFactory;
use clap_complete::CompleteEnv;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter};

use crate::api::routes;
use crate::api::status::StatusReply;
use crate::cli::args::Cli;
use crate::cli::connect::Daemon;
use crate::cli::exit;
use crate::model::event::EventKind;
use crate::model::exit::SIGNALS;

/// A person waits for Tab no longer than this.
const DEADLINE: Duration = Duration::from_millis(100);

/// A shell asks for completions.
#[must_use]
pub fn requested() -> bool {
    std::env::var_os("COMPLETE").is_some_and(|shell| !shell.is_empty())
}

/// Answers a shell.
#[must_use]
pub fn answer(args: Vec<OsString>) -> u8 {
    let folder = std::env::current_dir().ok();
    match CompleteEnv::with_factory(Cli::command).try_complete(args, folder.as_deref()) {
        Ok(_) => exit::OK,
        Err(_) => exit::USAGE,
    }
}

/// Names, `name:slot`, namespaces and `all`, beginning with what is typed.
#[must_use]
pub fn targets(current: &OsStr) -> Vec<CompletionCandidate> {
    let typed = current.to_string_lossy();
    let mut candidates = live().map(|status| candidates(&status, &typed)).unwrap_or_default();
    if "all".starts_with(&*typed) {
        candidates.push(CompletionCandidate::new("all").help(Some("every app".into())));
    }
    candidates
}

/// What can be started: files, and known apps.
#[must_use]
pub fn startable(current: &OsStr) -> Vec<CompletionCandidate> {
    let mut candidates = targets(current);
    candidates.extend(PathCompleter::file().complete(current));
    candidates
}

/// Names of signals.
#[must_use]
pub fn signals() -> Vec<CompletionCandidate> {
    SIGNALS
        .iter()
        .map(|(name, number)| CompletionCandidate::new(*name).help(Some(number.to_string().into())))
        .collect()
}

/// Kinds of events.
#[must_use]
pub fn kinds() -> Vec<CompletionCandidate> {
    EventKind::ALL
        .iter()
        .map(|kind| CompletionCandidate::new(kind.as_str()))
        .collect()
}

/// For arguments that are folders.
#[must_use]
pub fn folders() -> ArgValueCompleter {
    ArgValueCompleter::new(PathCompleter::dir())
}

/// The apps of a daemon that runs and answers in time.
fn live() -> Option<StatusReply> {
    let (answer, answered) = mpsc::channel();
    thread::spawn(move || {
        let status = Daemon::running()
            .ok()
            .flatten()
            .and_then(|mut daemon| daemon.get(routes::STATUS, &[]).ok());
        let _ = answer.send(status);
    });
    answered.recv_timeout(DEADLINE).ok().flatten()
}

fn candidates(status: &StatusReply, typed: &str) -> Vec<CompletionCandidate> {
    let mut found = Vec::new();
    let mut offer = |value: String, help: String| {
        if value.starts_with(typed) {
            found.push(CompletionCandidate::new(value).help(Some(help.into())));
        }
    };
    for app in &status.apps {
        offer(app.name.to_string(), app.state.to_string());
        // Slots only once the name is there: a hundred instances are no help to anybody.
        if typed
            .strip_prefix(app.name.as_str())
            .is_some_and(|rest| rest.starts_with(':'))
        {
            for instance in &app.instances {
                offer(format!("{}:{}", app.name, instance.slot), instance.state.to_string());
            }
        }
    }
    let mut namespaces: Vec<&str> = status.apps.iter().map(|app| app.namespace.as_str()).collect();
    namespaces.sort_unstable();
    namespaces.dedup();
    for namespace in namespaces.into_iter().filter(|name| *name != "default") {
        offer(namespace.to_owned(), "namespace".to_owned());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::candidates;
    use crate::cli::render::sample;

    #[test]
    fn offers_slots_only_behind_the_name() {
        let names = |typed: &str| -> Vec<String> {
            let all = candidates(&sample::status(), typed);
            all.iter()
                .map(|one| one.get_value().to_string_lossy().into_owned())
                .collect()
        };
        assert_eq!(names(""), ["api", "broken", "worker", "jobs"]);
        assert_eq!(names("a"), ["api"]);
        assert_eq!(names("api:"), ["api:0", "api:1"]);
        assert!(names("x").is_empty());
    }
}
