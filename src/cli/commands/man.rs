//! Manual pages: one for clmgr, one for each command.

use std::io;
use std::path::PathBuf;

use clap::{Args, CommandFactory};

use crate::cli::args::Cli;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::render::human::count;
use crate::os::fsx;

/// For the help text.
pub const EXAMPLES: &str = "Examples:
  clmgr man                              # read it with: clmgr man | man -l -
  clmgr man start
  clmgr man --dir /usr/local/share/man/man1";

/// `man`.
#[derive(Clone, Debug, Args)]
pub struct ManArgs {
    /// About this command
    #[arg(value_name = "COMMAND", conflicts_with = "dir")]
    pub command: Option<String>,
    /// Write all pages to this folder
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub dir: Option<PathBuf>,
}

/// All pages: file name and roff text.
///
/// # Errors
/// The generator failed.
pub fn pages() -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut command = Cli::command();
    command.build();
    let mut pages = vec![page(command.clone(), "clmgr".to_owned())?];
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        pages.push(page(verb.clone(), format!("clmgr-{}", verb.get_name()))?);
    }
    Ok(pages)
}

fn page(command: clap::Command, name: String) -> io::Result<(String, Vec<u8>)> {
    let file = format!("{name}.1");
    let bin = name.replace('-', " ");
    let command = command
        .name(name.clone())
        .display_name(name)
        .bin_name(bin)
        .version(crate::model::version::version());
    let mut text = Vec::new();
    clap_mangen::Man::new(command).manual("clmgr").render(&mut text)?;
    Ok((file, with_examples(text)))
}

/// The section the generator calls EXTRA is our examples; the word need not stand there twice.
fn with_examples(text: Vec<u8>) -> Vec<u8> {
    match String::from_utf8(text) {
        Ok(text) => text
            .replacen(".SH EXTRA\nExamples:\n", ".SH EXAMPLES\n", 1)
            .replacen(".SH EXTRA\n", ".SH EXAMPLES\n", 1)
            .into_bytes(),
        Err(error) => error.into_bytes(),
    }
}

pub(crate) fn run(args: &ManArgs, context: &mut Context) -> Result<(), Failure> {
    let pages = pages()?;
    if let Some(dir) = &args.dir {
        std::fs::create_dir_all(dir)
            .and_then(|()| {
                pages
                    .iter()
                    .try_for_each(|(file, text)| fsx::write_atomic(&dir.join(file), text, 0o644))
            })
            .map_err(|error| Failure::failed(format!("cannot write to {}: {error}", dir.display())))?;
        if context.json {
            let files: Vec<&String> = pages.iter().map(|(file, _)| file).collect();
            return context.ui.json(&files);
        }
        return context
            .ui
            .line(format_args!("{} in {}", count(pages.len(), "page"), dir.display()));
    }
    let file = args
        .command
        .as_ref()
        .map_or_else(|| "clmgr.1".to_owned(), |name| format!("clmgr-{name}.1"));
    let found = pages.iter().find(|(name, _)| *name == file);
    let (_, text) = found.ok_or_else(|| {
        Failure::usage(format!(
            "there is no command {:?}",
            args.command.as_deref().unwrap_or_default()
        ))
        .hint("clmgr help lists all")
    })?;
    context.ui.bytes(text)
}
