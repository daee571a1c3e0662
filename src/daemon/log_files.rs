//! Tells the pump which logs there are, so that their rotated files stay within bounds also while nobody writes; has
//! them opened anew; and refuses two apps on one file.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};

use crate::daemon::mail::Mail;
use crate::daemon::{Daemon, sinks};
use crate::logs::rotate::existing;
use crate::logs::sink::Removal;
use crate::logs::tidy::Known;
use crate::model::names::{AppId, Slot};
use crate::model::outcome::{ErrorBody, ErrorKind};
use crate::model::size::Bytes;
use crate::model::spec::AppSpec;

/// From what an app's list of logs was made.
pub(crate) type Told = (Arc<AppSpec>, Slot);

/// For people: what went, and why.
pub(crate) fn removed(removal: &Removal) -> String {
    let apps = removal.apps.iter().map(ToString::to_string).collect::<Vec<_>>();
    format!(
        "{}: {} rotated log files ({}) of {} were removed, oldest first: less is free than log_rotate.min_free",
        removal.folder.display(),
        removal.files,
        Bytes(removal.bytes),
        apps.join(", ")
    )
}

/// SIGUSR2 to this process does what it does to the keeper.
pub(crate) fn reopen_on_signal(mail: Mail) {
    let Ok(mut signals) = signal(SignalKind::user_defined2()) else {
        tracing::warn!("SIGUSR2 cannot be caught: `clmgr reopen` does the same");
        return;
    };
    tokio::spawn(async move {
        while signals.recv().await.is_some() {
            mail.post(|daemon| daemon.reopen_all());
        }
    });
}

impl Daemon {
    /// Opens all log files anew.
    pub(crate) fn reopen_all(&mut self) {
        tracing::info!("opening all log files anew");
        self.pump.reopen(None);
    }

    /// Tells of all logs, once.
    pub(crate) fn tend_all_logs(&mut self) {
        let ids: Vec<AppId> = self.core.apps.keys().copied().collect();
        ids.into_iter().for_each(|id| self.tend_logs(id));
    }

    /// Tells of an app's logs if they have changed. A deleted app's stay known, as its files stay.
    pub(crate) fn tend_logs(&mut self, id: AppId) {
        let Some(app) = self.core.apps.get(&id) else {
            self.told_logs.remove(&id);
            return;
        };
        let slots = app.visible_slots().last().map_or(0, |last| last + 1);
        let told = self.told_logs.get(&id);
        if told.is_some_and(|(spec, count)| Arc::ptr_eq(spec, app.spec()) && *count == slots) {
            return;
        }
        let rotation = Arc::new(app.spec().logs.rotate.clone());
        let known = |path: PathBuf| Known {
            path: path.into(),
            rotation: Arc::clone(&rotation),
        };
        let mut files = sinks::files(&self.home.logs, app);
        // What a former, larger number of instances has left.
        for slot in slots.. {
            let left = sinks::files_of(&self.home.logs, app, slot);
            if !left.iter().any(|path| path.exists() || existing(path, 1).is_some()) {
                break;
            }
            files.extend(left);
        }
        files.sort();
        files.dedup();
        self.told_logs.insert(id, (Arc::clone(app.spec()), slots));
        self.pump
            .know(app.name().clone(), files.into_iter().map(known).collect());
    }
}

/// Refuses specs that would write to a file of another app: a file has one writer, unless both say `merge_logs`.
pub(crate) fn refuse_shared(specs: &[AppSpec], known: &[Arc<AppSpec>]) -> Result<(), Box<ErrorBody>> {
    let others = known.iter().map(AsRef::as_ref);
    let others = others.filter(|app| specs.iter().all(|spec| spec.name != app.name));
    let mut seen: BTreeMap<Target, &AppSpec> = BTreeMap::new();
    for spec in others.chain(specs) {
        for path in given(spec) {
            for target in targets(&path) {
                let first = *seen.entry(target).or_insert(spec);
                let asked = specs
                    .iter()
                    .any(|asked| asked.name == first.name || asked.name == spec.name);
                if first.name != spec.name && asked && !(first.logs.merge && spec.logs.merge) {
                    let (one, two, path) = (&first.name, &spec.name, path.display());
                    return Err(Box::new(
                        ErrorBody::new(
                            ErrorKind::BadRequest,
                            format!("the apps {one} and {two} write to the same log {path}"),
                        )
                        .hint("give each its own file, or set `merge_logs = true` in both"),
                    ));
                }
            }
        }
    }
    Ok(())
}

/// The files that a spec names, of all its instances.
fn given(spec: &AppSpec) -> Vec<PathBuf> {
    let logs = &spec.logs;
    if logs.disabled {
        return Vec::new();
    }
    let slots = if logs.merge { 1 } else { spec.instances };
    let mut paths: Vec<PathBuf> = [&logs.out_file, &logs.error_file, &logs.log_file]
        .into_iter()
        .flatten()
        .flat_map(|file| (0..slots).map(|slot| sinks::numbered(file, logs.merge, slot)))
        .collect();
    paths.sort();
    paths.dedup();
    paths
}

/// What a name stands for: a path without links and `..`, or a file that may have several names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    Path(PathBuf),
    Inode(u64, u64),
}

/// Nothing for what everybody may write to: `/dev/null`, a terminal, a FIFO.
fn targets(path: &Path) -> Vec<Target> {
    let meta = path.metadata().ok();
    if path.starts_with("/dev") || meta.as_ref().is_some_and(|meta| !meta.is_file()) {
        return Vec::new();
    }
    let inode = meta.map(|meta| Target::Inode(meta.dev(), meta.ino()));
    let resolved = path.canonicalize().ok().or_else(|| {
        let folder = path.parent()?.canonicalize().ok()?;
        Some(folder.join(path.file_name()?))
    });
    let resolved = Target::Path(resolved.unwrap_or_else(|| path.to_owned()));
    inode.into_iter().chain([resolved]).collect()
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests make files")]
mod tests {
    use super::{Target, targets};
    use std::fs;

    #[test]
    fn a_file_is_known_by_all_its_names() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("real");
        fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, dir.path().join("link")).unwrap();
        let same = |one: &str, other: &str| {
            let of = |name: &str| targets(&dir.path().join(name));
            of(one).iter().any(|target| of(other).contains(target))
        };
        assert!(same("real/new", "link/new") && same("real/new", "real/../link/new"));
        assert!(!same("real/new", "real/other"));
        fs::write(real.join("a"), "").unwrap();
        fs::hard_link(real.join("a"), real.join("b")).unwrap();
        assert!(same("real/a", "link/b"));
        assert_eq!(targets("/dev/null".as_ref()), Vec::<Target>::new());
        assert_eq!(targets("/nowhere/x".as_ref()).len(), 1);
    }
}
