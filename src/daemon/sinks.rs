//! From an app's log settings to files: one place decides the names.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::api::logs::{Elsewhere, LogSource};
use crate::logs::sink::{Origin, Sink};
use crate::logs::target::Wanted;
use crate::model::logspec::{LogSpec, LogTarget, Stream};
use crate::model::names::{AppName, Slot};
use crate::model::ostext::OsText;
use crate::supervise::app::App;

/// The file of one stream of one instance.
///
/// Without a name of its own: `<app>-<slot>-out.log` in the logs folder, without the slot when merged. A given
/// file belongs to instance 0 (or to all when merged); instance n gets `-n` before the extension.
pub(crate) fn path(folder: &Path, app: &App, logs: &LogSpec, slot: Slot, stream: Stream) -> PathBuf {
    let given = match stream {
        Stream::Out => &logs.out_file,
        Stream::Err => &logs.error_file,
    };
    match given {
        Some(file) => numbered(file, logs.merge, slot),
        None => usual(folder, app.name(), logs.merge, slot, stream),
    }
}

/// The file of a stream that has no name of its own.
pub(crate) fn usual(folder: &Path, app: &AppName, merge: bool, slot: Slot, stream: Stream) -> PathBuf {
    let stream = stream.as_str();
    folder.join(if merge {
        format!("{app}-{stream}.log")
    } else {
        format!("{app}-{slot}-{stream}.log")
    })
}

pub(crate) fn numbered(file: &OsText, merge: bool, slot: Slot) -> PathBuf {
    let path = file.as_path();
    if merge || slot == 0 || path.starts_with("/dev") {
        return path.to_owned();
    }
    let mut name = OsString::from(path.file_stem().unwrap_or_default());
    name.push(format!("-{slot}"));
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

/// Where one stream of one run goes.
pub(crate) fn sink(
    folder: &Path,
    app: &App,
    logs: &LogSpec,
    slot: Slot,
    stream: Stream,
    pid: i32,
    adopted: bool,
) -> Sink {
    let own = path(folder, app, logs, slot, stream);
    let other = match stream {
        Stream::Out => Stream::Err,
        Stream::Err => Stream::Out,
    };
    let shared = logs.merge || path(folder, app, logs, slot, other) == own;
    Sink {
        targets: Wanted {
            journald: logs.goes_to(LogTarget::Journald),
            syslog: logs.goes_to(LogTarget::Syslog).then_some(logs.facility),
        },
        private_folder: own.parent() == Some(folder),
        path: own,
        log_file: logs.log_file.as_ref().map(|file| numbered(file, logs.merge, slot)),
        shared,
        adopted,
        format: logs.format.clone(),
        zone: logs.zone.clone(),
        rotate: logs.rotate.clone(),
        overflow: logs.overflow,
        disabled: !logs.goes_to(LogTarget::Files),
        console: None,
        origin: Arc::new(Origin {
            app: app.name().clone(),
            namespace: app.spec().namespace.clone(),
            slot,
            pid: u32::try_from(pid).unwrap_or(0),
        }),
    }
}

/// Every log file of an app.
pub(crate) fn sources(folder: &Path, app: &App) -> Vec<LogSource> {
    sources_of(folder, app, app.visible_slots())
}

/// Those of some of its slots; merged ones are everybody's.
fn sources_of(folder: &Path, app: &App, slots: impl Iterator<Item = Slot>) -> Vec<LogSource> {
    let spec = app.spec();
    let logs = &spec.logs;
    if !logs.goes_to(LogTarget::Files) {
        return Vec::new();
    }
    let source = |slot: Option<Slot>, stream, path: PathBuf| LogSource {
        id: app.id,
        app: spec.name.clone(),
        namespace: spec.namespace.clone(),
        slot,
        stream,
        format: logs.format.clone(),
        zone: logs.zone.clone(),
        path: path.into(),
    };
    let slots: Vec<Slot> = if logs.merge { vec![0] } else { slots.collect() };
    let mut found = Vec::new();
    for slot in slots {
        let shown = if logs.merge { None } else { Some(slot) };
        let out = path(folder, app, logs, slot, Stream::Out);
        let err = path(folder, app, logs, slot, Stream::Err);
        if out == err {
            found.push(source(shown, None, out));
        } else {
            found.push(source(shown, Some(Stream::Out), out));
            found.push(source(shown, Some(Stream::Err), err));
        }
    }
    // Nothing is ever there.
    found.retain(|source| source.path.as_path() != Path::new("/dev/null"));
    found
}

/// The files of one slot, the merged one included; none when all slots have the same.
pub(crate) fn files_of(folder: &Path, app: &App, slot: Slot) -> Vec<PathBuf> {
    let logs = &app.spec().logs;
    if logs.disabled || logs.merge {
        return Vec::new();
    }
    let own = [Stream::Out, Stream::Err].map(|stream| path(folder, app, logs, slot, stream));
    let log_file = logs.log_file.as_ref().map(|file| numbered(file, logs.merge, slot));
    let mut files: Vec<PathBuf> = own.into_iter().chain(log_file).collect();
    files.retain(|file| !file.starts_with("/dev"));
    files
}

/// Where its output goes, if not into files.
pub(crate) fn elsewhere(app: &App) -> Option<Elsewhere> {
    let logs = &app.spec().logs;
    (!logs.goes_to(LogTarget::Files)).then(|| Elsewhere {
        app: app.name().clone(),
        targets: LogTarget::ALL
            .into_iter()
            .filter(|target| logs.goes_to(*target))
            .collect(),
    })
}

/// Every file an app writes, the one with both streams included.
pub(crate) fn files(folder: &Path, app: &App) -> Vec<PathBuf> {
    files_in(folder, app, &app.visible_slots().collect::<Vec<_>>())
}

/// Those of some of its slots; merged ones are everybody's.
pub(crate) fn files_in(folder: &Path, app: &App, slots: &[Slot]) -> Vec<PathBuf> {
    let logs = &app.spec().logs;
    let mut files: Vec<PathBuf> = sources_of(folder, app, slots.iter().copied())
        .into_iter()
        .map(|source| source.path.as_path().to_owned())
        .collect();
    if let Some(file) = logs.log_file.as_ref().filter(|_| logs.goes_to(LogTarget::Files)) {
        files.extend(slots.iter().map(|slot| numbered(file, logs.merge, *slot)));
    }
    files.sort();
    files.dedup();
    files.retain(|file| !file.starts_with("/dev"));
    files
}
