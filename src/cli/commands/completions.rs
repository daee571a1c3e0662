//! Prints a completion script. The script calls `clmgr` back on each Tab, so app names are those of now.

use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::env::{Bash, EnvCompleter, Fish, Zsh};

use crate::cli::args::Cli;
use crate::cli::context::Context;
use crate::cli::failure::Failure;

/// For the help text.
pub const EXAMPLES: &str = "Examples:
  clmgr completions bash > /etc/bash_completion.d/clmgr
  clmgr completions zsh > ~/.clmgr.zsh   # and in ~/.zshrc: source ~/.clmgr.zsh
  clmgr completions fish > ~/.config/fish/completions/clmgr.fish";

/// bash would complete the two halves of `api:0` apart.
const BASH_COLONS: &[u8] = b"\n# name:slot is one word\nCOMP_WORDBREAKS=${COMP_WORDBREAKS//:}\n";

/// `completions`.
#[derive(Clone, Debug, Args)]
pub struct CompletionsArgs {
    /// Which shell
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}

/// A shell whose completion is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// bash
    Bash,
    /// zsh
    Zsh,
    /// fish
    Fish,
}

impl Shell {
    /// Name of the script in the repository's `completions/`.
    #[must_use]
    pub const fn file(self) -> &'static str {
        match self {
            Self::Bash => "clmgr.bash",
            Self::Zsh => "clmgr.zsh",
            Self::Fish => "clmgr.fish",
        }
    }

    /// The script.
    ///
    /// # Errors
    /// The generator failed.
    pub fn script(self) -> std::io::Result<Vec<u8>> {
        let completer: &dyn EnvCompleter = match self {
            Self::Bash => &Bash,
            Self::Zsh => &Zsh,
            Self::Fish => &Fish,
        };
        let name = Cli::command().get_name().to_owned();
        let mut script = Vec::new();
        completer.write_registration("COMPLETE", &name, &name, &name, &mut script)?;
        if self == Self::Bash {
            script.extend_from_slice(BASH_COLONS);
        }
        Ok(script)
    }
}

pub(crate) fn run(args: &CompletionsArgs, context: &mut Context) -> Result<(), Failure> {
    let script = args.shell.script()?;
    context.ui.bytes(&script)
}
