//! `log_timezone`.

use std::path::Path;

use crate::config::context::FileKind;
use crate::config::diagnostic::{Diagnostic, did_you_mean};
use crate::config::fields::Fields;
use crate::model::zone::{FOLDERS, is_name, is_utc};

/// Reads it; `"local"` is the machine's own, as is nothing.
pub(super) fn zone(fields: &Fields<'_>) -> Option<String> {
    let key = "log_timezone";
    let (name, span) = fields.text(key)?;
    if name == "local" {
        return None;
    }
    if is_utc(name) {
        return Some("UTC".to_owned());
    }
    let cx = fields.reader.cx;
    let kind = |path: &Path| (cx.file_kind)(path);
    let is_file = |path: &Path| matches!(kind(path), FileKind::File | FileKind::Program);
    if is_name(name) && FOLDERS.iter().any(|folder| is_file(&Path::new(folder).join(name))) {
        return Some(name.to_owned());
    }
    let folder = FOLDERS
        .iter()
        .find(|folder| kind(Path::new(folder)) == FileKind::Folder);
    let diagnostic = match folder {
        None => Diagnostic::error(
            span.clone(),
            key,
            format!("this machine has no time zones, `{name}` among them"),
        )
        .hint("install the package tzdata, or use \"UTC\" or \"local\""),
        Some(folder) => {
            // Names differ within one continent, most of the time.
            let inside = name.rsplit_once('/').map_or("", |(inside, _)| inside);
            let found = cx
                .list_dir
                .filter(|_| is_name(name))
                .map(|list| list(&Path::new(folder).join(inside)));
            let full = |last: String| Path::new(inside).join(last).to_string_lossy().into_owned();
            let names: Vec<String> = found
                .into_iter()
                .flatten()
                .map(full)
                .filter(|other| other != name)
                .collect();
            let near = did_you_mean(name, names.iter().map(String::as_str));
            let unknown = Diagnostic::error(span.clone(), key, format!("there is no time zone `{name}`"));
            if near.is_some() {
                unknown.hints(near)
            } else {
                unknown.hint("use a name like \"Europe/Berlin\" (timedatectl list-timezones), \"UTC\" or \"local\"")
            }
        }
    };
    fields.reader.sink.push(diagnostic);
    None
}
