//! Relative and home-relative paths made absolute, and what to say about ones that lead nowhere.

use std::path::{Component, Path, PathBuf};

use crate::config::context::Context;
use crate::config::diagnostic::closest;

/// `text` as an absolute path: `~` is the home, anything relative starts at `base`. `.` parts are
/// removed, `..` parts stay, because a symbolic link may be before them.
pub(super) fn absolute(text: &str, base: &Path, cx: &Context<'_>) -> PathBuf {
    let joined = match (text.strip_prefix('~'), cx.home) {
        (Some(""), Some(home)) => home.to_owned(),
        (Some(rest), Some(home)) if rest.starts_with('/') => home.join(rest.trim_start_matches('/')),
        _ => base.join(text),
    };
    joined.components().filter(|part| *part != Component::CurDir).collect()
}

/// `did you mean …?` with a similar name in the same folder.
pub(super) fn similar(path: &Path, cx: &Context<'_>) -> Option<String> {
    let wanted = path.file_name()?.to_str()?;
    let folder = path.parent()?;
    let names = (cx.list_dir?)(folder);
    let found = closest(wanted, names.iter().map(String::as_str))?;
    Some(format!("did you mean `{}`?", folder.join(found).display()))
}
