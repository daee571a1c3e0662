//! Tells the pump which logs there are, so that their rotated files stay within bounds also while nobody writes; has
//! them opened anew; and refuses two apps on one file.

use std::collections::BTreeMap;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};

use crate::daemon::mail::Mail;
use crate::daemon::{Daemon, sinks};
use crate::logs::rotate::existing;
use crate::logs::sink::Removal;
use crate::logs::tidy::Known;
use crate::model::logspec::{LogTarget, Stream};
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
    /// The folder of logs, and all apps.
    pub(crate) fn writers(&self) -> (PathBuf, Vec<Scaled>) {
        let apps = self.core.apps.values();
        let apps = apps.map(|app| (Arc::clone(app.spec()), app.desired));
        (self.home.logs.clone(), apps.collect())
    }

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

/// An app as it is known, and how many instances it has by now.
pub(crate) type Scaled = (Arc<AppSpec>, Slot);

/// Who writes to files: an app, by which of its instances, and whether that is what is asked for now.
struct Writer<'a> {
    app: &'a AppSpec,
    slots: Range<Slot>,
    asked: bool,
}

/// Refuses specs that would write to a file of another app: a file has one writer, unless both say `merge_logs`. Under
/// two names it would have two writers even then, also within one app. What already runs or is saved is not asked.
pub(crate) fn refuse_shared(folder: &Path, specs: &[AppSpec], known: &[Scaled]) -> Result<(), Box<ErrorBody>> {
    let others = known
        .iter()
        .filter(|(app, _)| specs.iter().all(|spec| spec.name != app.name));
    let others = others.map(|(app, count)| Writer {
        app,
        slots: 0..*count,
        asked: false,
    });
    let asked = specs.iter().map(|app| {
        // A number that was not changed in the file leaves what `scale` has made of it.
        let scaled = known.iter().find(|(known, _)| known.name == app.name);
        let scaled = scaled.filter(|(known, _)| known.instances == app.instances);
        Writer {
            app,
            slots: 0..scaled.map_or(app.instances, |(_, count)| *count),
            asked: true,
        }
    });
    refuse(folder, others.chain(asked))
}

/// Refuses instances that would write to a file of another app; these apps are to have so many.
pub(crate) fn refuse_scaled(folder: &Path, grown: &[Scaled], known: &[Scaled]) -> Result<(), Box<ErrorBody>> {
    let there = known.iter().map(|(app, count)| Writer {
        app,
        slots: 0..*count,
        asked: false,
    });
    let more = grown.iter().map(|(app, count)| {
        let old = known.iter().find(|(known, _)| known.name == app.name);
        Writer {
            app,
            slots: old.map_or(0, |(_, count)| *count)..*count,
            asked: true,
        }
    });
    refuse(folder, there.chain(more))
}

fn refuse<'a>(folder: &Path, writers: impl Iterator<Item = Writer<'a>>) -> Result<(), Box<ErrorBody>> {
    let folder = resolved(folder);
    let mut seen: BTreeMap<Target, (&AppSpec, bool, PathBuf)> = BTreeMap::new();
    for Writer { app, slots, asked } in writers {
        let own = usual(&folder, app, &slots)
            .into_iter()
            .map(|path| (path.clone(), vec![Target::Path(path)]));
        let given = given(app, &slots)
            .into_iter()
            .map(|path| (path.clone(), targets(&path)));
        for (path, targets) in own.chain(given) {
            for target in targets {
                let (first, was_asked, name) = seen.entry(target).or_insert_with(|| (app, asked, path.clone()));
                let merged = first.name == app.name || first.logs.merge && app.logs.merge;
                if (*was_asked || asked) && (!merged || *name != path) {
                    return Err(Box::new(refusal((first, name), (app, &path), merged)));
                }
            }
        }
    }
    Ok(())
}

fn refusal(one: (&AppSpec, &Path), two: (&AppSpec, &Path), merged: bool) -> ErrorBody {
    let path = two.1.display();
    let whose = if one.0.name == two.0.name {
        format!("the app {} writes", one.0.name)
    } else {
        format!("the apps {} and {} write", one.0.name, two.0.name)
    };
    let (also, hint) = match (one.1 == two.1, merged) {
        (true, _) => (
            String::new(),
            "give each its own file, or set `merge_logs = true` in both",
        ),
        (false, true) => (
            format!(", which is also {}", one.1.display()),
            "write its name in the same way everywhere, or give each its own file",
        ),
        (false, false) => (
            format!(", which is also {}", one.1.display()),
            "give each its own file, or set `merge_logs = true` in both and write its name in the same way",
        ),
    };
    ErrorBody::new(ErrorKind::BadRequest, format!("{whose} to the same log {path}{also}")).hint(hint)
}

/// Of the slots, those that have files of their own.
fn writing(spec: &AppSpec, slots: &Range<Slot>) -> Range<Slot> {
    if spec.logs.merge {
        slots.start.min(1)..slots.end.min(1)
    } else {
        slots.clone()
    }
}

/// The files in our folder that have their names from the app.
fn usual(folder: &Path, spec: &AppSpec, slots: &Range<Slot>) -> Vec<PathBuf> {
    let logs = &spec.logs;
    if !logs.goes_to(LogTarget::Files) {
        return Vec::new();
    }
    let streams = [(Stream::Out, &logs.out_file), (Stream::Err, &logs.error_file)];
    let unnamed = streams.into_iter().filter(|(_, file)| file.is_none());
    unnamed
        .flat_map(|(stream, _)| {
            writing(spec, slots).map(move |slot| sinks::usual(folder, &spec.name, logs.merge, slot, stream))
        })
        .collect()
}

/// The files that a spec names, of these instances.
fn given(spec: &AppSpec, slots: &Range<Slot>) -> Vec<PathBuf> {
    let logs = &spec.logs;
    if !logs.goes_to(LogTarget::Files) {
        return Vec::new();
    }
    let mut paths: Vec<PathBuf> = [&logs.out_file, &logs.error_file, &logs.log_file]
        .into_iter()
        .flatten()
        .flat_map(|file| writing(spec, slots).map(|slot| sinks::numbered(file, logs.merge, slot)))
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
    inode.into_iter().chain([Target::Path(resolved(path))]).collect()
}

/// A path without links and `..`, of which the end need not be there.
fn resolved(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    // As many links as the kernel follows.
    for _ in 0..40 {
        if let Ok(found) = path.canonicalize() {
            return found;
        }
        let Some(folder) = path.parent().map(Path::to_owned) else {
            return path;
        };
        match path.read_link() {
            Ok(link) => path = folder.join(link),
            Err(_) => {
                let name = path.file_name().map(ToOwned::to_owned);
                return name.map_or(path, |name| resolved(&folder).join(name));
            }
        }
    }
    path
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests make files")]
mod tests {
    use super::{Scaled, Target, refuse_scaled, refuse_shared, targets};
    use crate::model::names::Slot;
    use crate::model::spec::AppSpec;
    use std::fs;
    use std::path::Path;
    use std::sync::Arc;

    fn app(name: &str, out: Option<&str>, merge: bool) -> AppSpec {
        let mut spec = AppSpec::new(name.parse().unwrap(), vec!["x".into()], "/".into());
        spec.logs.out_file = out.map(Into::into);
        spec.logs.merge = merge;
        spec
    }

    fn scaled(app: &AppSpec, count: Slot) -> Scaled {
        (Arc::new(app.clone()), count)
    }

    #[test]
    fn a_default_name_is_refused_as_a_given_one_is() {
        let folder = Path::new("/nowhere/logs");
        let (usual, given) = (
            app("d", None, false),
            app("e", Some("/nowhere/logs/d-0-out.log"), false),
        );
        for (first, second) in [(&usual, &given), (&given, &usual)] {
            let error = refuse_shared(folder, std::slice::from_ref(second), &[scaled(first, 1)]).unwrap_err();
            let text = format!("{} {:?}", error.message, error.hints);
            for part in ["d", "e", "/nowhere/logs/d-0-out.log", "its own file"] {
                assert!(text.contains(part), "{text}");
            }
            refuse_shared(folder, &[], &[scaled(first, 1), scaled(second, 1)]).unwrap();
        }
        // It has more instances by now than its file says.
        let later = app("e", Some("/nowhere/logs/d-2-out.log"), false);
        assert!(refuse_shared(folder, std::slice::from_ref(&later), &[scaled(&usual, 3)]).is_err());
        let known = [scaled(&usual, 3), scaled(&later, 1)];
        assert!(refuse_shared(folder, std::slice::from_ref(&usual), &known).is_err());
    }

    #[test]
    fn only_instances_that_come_are_refused() {
        let folder = Path::new("/nowhere/logs");
        let api = app("api", Some("/nowhere/api.log"), false);
        let other = app("other", Some("/nowhere/api-1.log"), false);
        let known = [scaled(&api, 1), scaled(&other, 1)];
        let error = refuse_scaled(folder, &[scaled(&api, 2)], &known).unwrap_err();
        assert!(
            error.message.contains("/nowhere/api-1.log") && error.message.contains("other and api"),
            "{}",
            error.message
        );
        // Fewer, or as many: nothing comes.
        refuse_scaled(folder, &[scaled(&api, 1), scaled(&other, 1)], &known).unwrap();
        // What was accepted once stays so.
        refuse_scaled(folder, &[scaled(&api, 3)], &[scaled(&api, 2), scaled(&other, 1)]).unwrap();
        let merged = app("api", Some("/nowhere/api.log"), true);
        refuse_scaled(folder, &[scaled(&merged, 4)], &[scaled(&merged, 1), scaled(&other, 1)]).unwrap();
    }

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
        std::os::unix::fs::symlink("../real/later", real.join("early")).unwrap();
        assert!(same("link/early", "real/later") && same("real/not/yet", "link/not/yet"));
        std::os::unix::fs::symlink("round", dir.path().join("round")).unwrap();
        assert_eq!(targets(&dir.path().join("round")).len(), 1);
        assert_eq!(targets("/dev/null".as_ref()), Vec::<Target>::new());
        assert_eq!(targets("/nowhere/x".as_ref()).len(), 1);
    }
}
