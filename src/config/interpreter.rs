//! Which program runs a script.

use std::path::Path;

use crate::config::context::{Context, FileKind};

/// By extension: the programs to try, in order.
const BY_EXTENSION: &[(&str, &[&str])] = &[
    ("js", &["node"]),
    ("mjs", &["node"]),
    ("cjs", &["node"]),
    ("ts", &["node", "bun", "tsx"]),
    ("mts", &["node", "bun", "tsx"]),
    ("cts", &["node", "bun", "tsx"]),
    ("py", &["python3"]),
    ("sh", &["sh"]),
    ("rb", &["ruby"]),
    ("php", &["php"]),
    ("pl", &["perl"]),
];

/// How a script is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Runner {
    /// By the kernel.
    Itself,
    /// By this program.
    Program(&'static str),
    /// By one of these, but none is there.
    Absent(&'static [&'static str]),
    /// Not executable, and no known extension.
    Unknown,
}

/// Decides for an existing file. An executable file that names its own interpreter (`#!`) or has no
/// known extension is run as it is; `found` tells whether the app's `PATH` has a program.
pub(super) fn runner(script: &Path, kind: FileKind, cx: &Context<'_>, found: &dyn Fn(&str) -> bool) -> Runner {
    let extension = script.extension().and_then(|e| e.to_str()).unwrap_or_default();
    let programs = BY_EXTENSION.iter().find(|(e, _)| e.eq_ignore_ascii_case(extension));
    match (kind, programs) {
        (FileKind::Program, None) => Runner::Itself,
        (FileKind::Program, Some(_)) if has_shebang(script, cx) => Runner::Itself,
        (_, Some((_, programs))) => programs
            .iter()
            .find(|program| found(program))
            .map_or(Runner::Absent(programs), |program| Runner::Program(program)),
        (_, None) => Runner::Unknown,
    }
}

fn has_shebang(script: &Path, cx: &Context<'_>) -> bool {
    (cx.read_file)(script).is_ok_and(|text| text.starts_with("#!"))
}
