//! Checks an ecosystem file without starting anything.

use std::path::PathBuf;

use clap::Args;

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::render::human::count;
use crate::cli::{exit, load, world};

/// For the help text.
pub const EXAMPLES: &str = "Examples:
  clmgr validate
  clmgr validate deploy/ecosystem.toml --env production
  clmgr validate --json";

/// `validate`.
#[derive(Clone, Debug, Args)]
pub struct ValidateArgs {
    /// The file; - for standard input
    #[arg(value_name = "FILE", default_value = "ecosystem.toml", value_hint = clap::ValueHint::FilePath)]
    pub file: PathBuf,
    /// With the variables of `env_<PROFILE>`
    #[arg(long, value_name = "PROFILE")]
    pub env: Option<String>,
}

pub(crate) fn run(args: &ValidateArgs, context: &mut Context) -> Result<(), Failure> {
    let parsed = load::parse(&args.file, args.env.as_deref(), &world::environment())?;
    let problems = match &parsed {
        Ok(parsed) => &parsed.warnings,
        Err(diagnostics) => diagnostics,
    };
    if context.json {
        let names: Vec<String> = parsed
            .iter()
            .flat_map(|ok| &ok.apps)
            .map(|app| app.name.to_string())
            .collect();
        context.ui.json(&serde_json::json!({
            "valid": parsed.is_ok(), "apps": names, "problems": problems.to_json(),
        }))?;
    } else if !problems.is_empty() {
        let text = problems.render(context.ui.is_coloured());
        context.ui.note(&text);
    }
    match parsed {
        Err(_) => Err(Failure::said(exit::USAGE)),
        Ok(_) if context.json => Ok(()),
        Ok(parsed) => context.ui.line(format_args!(
            "{} is fine: {}",
            args.file.display(),
            count(parsed.apps.len(), "app")
        )),
    }
}
