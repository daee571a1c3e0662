//! Writes an ecosystem.toml for the folder it finds.

use std::path::Path;

use clap::Args;

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::world;
use crate::config::{self, Found};
use crate::os::fsx;

/// For the help text.
pub const EXAMPLES: &str = "Examples:
  clmgr init
  clmgr init --print
  clmgr init --force                     # over an existing file";

/// `init`.
#[derive(Clone, Debug, Args)]
pub struct InitArgs {
    /// Overwrite an ecosystem.toml that is there
    #[arg(long)]
    pub force: bool,
    /// Print it instead of writing it
    #[arg(long)]
    pub print: bool,
}

const FILE: &str = "ecosystem.toml";

pub(crate) fn run(args: &InitArgs, context: &mut Context) -> Result<(), Failure> {
    let text = config::init(&look_around()?);
    if args.print {
        return context.ui.bytes(text.as_bytes());
    }
    if Path::new(FILE).exists() && !args.force {
        return Err(Failure::usage(format!("there is an {FILE} already"))
            .hint("clmgr init --print shows the new one")
            .hint("clmgr init --force overwrites it"));
    }
    fsx::write_atomic(&world::here()?.join(FILE), text.as_bytes(), 0o644)
        .map_err(|error| Failure::failed(format!("cannot write {FILE}: {error}")))?;
    if context.json {
        return context.ui.json(&serde_json::json!({ "file": FILE }));
    }
    context.ui.line(format_args!("wrote {FILE}"))?;
    context.ui.hint("look it over, then: clmgr start");
    Ok(())
}

/// What the folder holds.
fn look_around() -> Result<Found, Failure> {
    let here = world::here()?;
    let text = |name: &str| world::read_text(&here.join(name)).ok();
    Ok(Found {
        package_json: text("package.json"),
        pyproject: text("pyproject.toml"),
        procfile: text("Procfile"),
        files: world::list_dir(&here),
        folder_name: here
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default(),
    })
}
