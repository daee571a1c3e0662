//! `status --json` is asked by scripts many times a minute. Building the whole tree of commands costs more
//! than the answer itself, so exactly this form goes around it.

use std::ffi::OsString;

use crate::cli::commands::status;
use crate::cli::context::Context;
use crate::cli::failure::Failure;

/// A command line that needs no parser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quick {
    /// `status --json`, all apps.
    StatusJson,
}

/// Recognizes `clmgr status --json` and its aliases; everything else is for the parser.
pub(crate) fn recognize(args: &[OsString]) -> Option<Quick> {
    let [_, verb, flag] = args else { return None };
    let is_status = ["status", "list", "ls", "ps"].iter().any(|name| verb == name);
    (is_status && flag == "--json" && !super::complete::requested()).then_some(Quick::StatusJson)
}

impl Quick {
    /// The output is JSON.
    pub(crate) const fn json(self) -> bool {
        match self {
            Self::StatusJson => true,
        }
    }

    /// Does it.
    pub(crate) fn run(self, context: &mut Context) -> Result<(), Failure> {
        match self {
            Self::StatusJson => status::print_json(&[], context),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Quick, recognize};

    #[test]
    fn only_the_exact_form_is_quick() {
        let is = |words: &[&str]| recognize(&words.iter().map(Into::into).collect::<Vec<_>>());
        for alias in ["status", "list", "ls", "ps"] {
            assert_eq!(is(&["clmgr", alias, "--json"]), Some(Quick::StatusJson));
        }
        for other in [
            &["clmgr", "status"][..],
            &["clmgr", "status", "api", "--json"],
            &["clmgr", "pid", "--json"],
            &["clmgr", "status", "--help"],
            &["clmgr"],
            &[],
        ] {
            assert_eq!(is(other), None, "{other:?}");
        }
    }
}
