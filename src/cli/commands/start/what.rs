//! What a word after `start` means.
//!
//! In this order: `-` and `….toml`/`….json` are ecosystem files; `all`, `/regex/`, `name:slot` and numbers
//! are known apps; a word with blanks is a command; with options or arguments for a program, and for the
//! path of a file that exists, it is a program; any other word is a known app, or else a program of `PATH`.

use std::path::Path;
use std::sync::Arc;

use crate::api::operation::{OperationReply, TargetRequest};
use crate::api::routes;
use crate::api::status::StatusReply;
use crate::cli::commands::start::{ProgramArgs, StartArgs, apply, program};
use crate::cli::connect::Daemon;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::load::Loaded;
use crate::cli::{exit, load, targets, world};
use crate::config::FileKind;
use crate::model::names::AppName;
use crate::model::target::Target;

/// One thing to start.
#[derive(Clone, Debug)]
pub(super) enum Part {
    /// The apps of a file.
    File(String),
    /// Apps that are known.
    Known(Vec<Target>),
    /// A known app of this name, or else a program of `PATH`.
    KnownOrProgram(String),
    /// A script, a program or a command.
    Program(String),
}

/// Sorts the words. Known apps come together in one request.
pub(super) fn sort_out(args: &StartArgs) -> Result<Vec<Part>, Failure> {
    if args.what.is_empty() {
        return Ok(vec![Part::File(default_file(args)?)]);
    }
    let about_program = args.name.is_some() || args.program != ProgramArgs::default();
    let mut parts = Vec::new();
    let mut known = Vec::new();
    for word in &args.what {
        match meaning(word, about_program)? {
            Part::Known(targets) => known.extend(targets),
            part @ (Part::File(_) | Part::KnownOrProgram(_) | Part::Program(_)) => parts.push(part),
        }
    }
    if !known.is_empty() {
        parts.push(Part::Known(known));
    }
    let files = parts.iter().filter(|part| matches!(part, Part::File(_))).count();
    if files == 0 && (!args.only.is_empty() || args.env.is_some()) {
        return Err(Failure::usage("--only and --env are about the apps of a file")
            .hint("clmgr start ecosystem.toml --env production"));
    }
    if about_program && parts.iter().any(|part| !matches!(part, Part::Program(_))) {
        return Err(
            Failure::usage("options for a program do not go with files and known apps")
                .hint("change them in the file, then: clmgr start ecosystem.toml"),
        );
    }
    if args.name.is_some() && parts.len() > 1 {
        return Err(Failure::usage("one --name cannot be given to several programs"));
    }
    Ok(parts)
}

/// The same where no app is known: any other word is a program.
pub(super) fn unknown(parts: Vec<Part>) -> Result<Vec<Part>, Failure> {
    let part = |part| match part {
        Part::Known(targets) => {
            let words: Vec<String> = targets.iter().map(ToString::to_string).collect();
            Err(Failure::not_found(format!(
                "there is no app {} yet; a file or a program is expected here",
                words.join(", ")
            )))
        }
        Part::KnownOrProgram(word) => Ok(Part::Program(word)),
        part @ (Part::File(_) | Part::Program(_)) => Ok(part),
    };
    parts.into_iter().map(part).collect()
}

fn meaning(word: &str, about_program: bool) -> Result<Part, Failure> {
    if targets::is_file(word) && !(about_program && word != "-" && !word.ends_with(".toml")) {
        return Ok(Part::File(word.to_owned()));
    }
    if is_foreign_file(word) && !about_program {
        return Err(Failure::usage(format!(
            "{word} is a file of another process manager, which is not read"
        ))
        .hint("clmgr init writes an ecosystem.toml for this folder; most keys keep their names"));
    }
    if about_program || word.contains(char::is_whitespace) {
        return Ok(Part::Program(word.to_owned()));
    }
    match word.parse::<Target>() {
        Ok(Target::Named(name)) => match world::file_kind(Path::new(word)) {
            FileKind::File | FileKind::Program => Ok(Part::Program(name)),
            FileKind::Missing | FileKind::Folder if looks_like_script(&name) => Ok(Part::Program(name)),
            FileKind::Missing | FileKind::Folder => Ok(Part::KnownOrProgram(name)),
        },
        Ok(target) => Ok(Part::Known(vec![target])),
        Err(_) => match world::file_kind(Path::new(word)) {
            FileKind::Folder => Err(Failure::usage(format!("{word} is a folder"))
                .hint(format!("clmgr start {}/ecosystem.toml", word.trim_end_matches('/')))),
            FileKind::Missing | FileKind::File | FileKind::Program => Ok(Part::Program(word.to_owned())),
        },
    }
}

/// `ecosystem.config.js` and its like: running it as a program would do nothing, and say nothing.
fn is_foreign_file(word: &str) -> bool {
    [".config.js", ".config.cjs", ".config.mjs", ".yaml", ".yml"]
        .iter()
        .any(|ending| word.ends_with(ending))
}

/// A name that ends like a script's is one, so that a typing mistake is reported as a missing file.
fn looks_like_script(name: &str) -> bool {
    const ENDINGS: [&str; 9] = ["js", "mjs", "cjs", "ts", "py", "sh", "rb", "php", "pl"];
    name.rsplit_once('.')
        .is_some_and(|(_, ending)| ENDINGS.contains(&ending))
}

/// `./ecosystem.toml`, or `./ecosystem.json`.
fn default_file(args: &StartArgs) -> Result<String, Failure> {
    if args.name.is_some() || args.program != ProgramArgs::default() {
        return Err(Failure::usage("the program to start is missing").hint("clmgr start server.js -i 4 --name api"));
    }
    ["ecosystem.toml", "ecosystem.json"]
        .iter()
        .find(|name| Path::new(name).exists())
        .map(|name| (*name).to_owned())
        .ok_or_else(|| {
            Failure::usage("there is no ecosystem.toml in this folder")
                .hint("clmgr init writes one")
                .hint("clmgr start server.js starts one program")
        })
}

/// A part that was found good.
#[derive(Debug)]
pub(crate) enum Prepared {
    /// Apps of a file, or of a command line.
    Apps(Loaded),
    /// Apps that are known.
    Known(Vec<Target>),
}

/// Reads and checks every part, so that nothing is started if one of them is wrong.
pub(super) fn prepare(parts: Vec<Part>, args: &StartArgs) -> Result<Vec<Prepared>, Failure> {
    let several = parts.len() > 1;
    let program = parts.iter().find_map(|part| match part {
        Part::Program(word) | Part::KnownOrProgram(word) => Some(word.clone()),
        Part::File(_) | Part::Known(_) => None,
    });
    let prepared = |part| match part {
        Part::File(file) => {
            let options = load::Options {
                profile: args.env.clone(),
                only: args.only.clone(),
            };
            Ok(Prepared::Apps(load::file(Path::new(&file), &options)?))
        }
        Part::Program(word) => Ok(Prepared::Apps(load::adhoc(&program::describe(word, args))?)),
        Part::KnownOrProgram(word) => {
            let target = Target::Named(word.clone());
            match check(std::slice::from_ref(&target)) {
                Ok(()) => Ok(Prepared::Known(vec![target])),
                Err(failure) if failure.code == exit::NOT_FOUND && world::which(&word) => {
                    Ok(Prepared::Apps(load::adhoc(&program::describe(word, args))?))
                }
                Err(failure)
                    if failure.code == exit::NOT_FOUND && world::file_kind(Path::new(&word)) == FileKind::Folder =>
                {
                    Err(failure.hint(format!(
                        "{word} is a folder; for the file in it: clmgr start {word}/ecosystem.toml"
                    )))
                }
                Err(failure) => Err(failure),
            }
        }
        // Alone, the request itself says what is wrong.
        Part::Known(targets) => {
            if several {
                check(&targets)?;
            }
            Ok(Prepared::Known(targets))
        }
    };
    let all: Result<Vec<_>, Failure> = parts.into_iter().map(prepared).collect();
    all.map_err(|failure| match (&program, several && failure.code == exit::NOT_FOUND) {
        (Some(program), true) => failure
            .hint(format!("arguments for a program: clmgr start {program} -- ARGUMENTS"))
            .hint("nothing was started"),
        (Some(_) | None, _) => failure,
    })
}

/// Every target means something.
fn check(targets: &[Target]) -> Result<(), Failure> {
    let query = targets::query(targets);
    Daemon::start()?.get::<StatusReply>(routes::STATUS, &query).map(drop)
}

impl Prepared {
    /// The names of its apps, as far as they are told here.
    pub(crate) fn names(&self) -> Vec<AppName> {
        match self {
            Self::Apps(loaded) => loaded.apps.iter().map(|app| app.name.clone()).collect(),
            Self::Known(_) => Vec::new(),
        }
    }

    /// Does it.
    pub(crate) fn start(self, args: &StartArgs, context: &mut Context) -> Result<OperationReply, Failure> {
        match self {
            Self::Apps(apps) => apply::loaded(apps, args.update_env, args.no_rollback, context),
            Self::Known(targets) => {
                let watched = targets.clone();
                let request = TargetRequest {
                    targets,
                    update_env: args.update_env.then(|| Arc::new(world::environment())),
                    no_rollback: args.no_rollback,
                };
                Daemon::start()?.change_watched(routes::START, request, &watched)
            }
        }
    }
}

#[cfg(test)]
#[path = "what_tests.rs"]
mod tests;
