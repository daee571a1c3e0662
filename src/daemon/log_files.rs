//! Tells the pump which logs there are, so that their rotated files stay within bounds also while nobody writes.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};

use crate::daemon::mail::Mail;
use crate::daemon::{Daemon, sinks};
use crate::logs::rotate::existing;
use crate::logs::sink::Removal;
use crate::logs::tidy::Known;
use crate::model::names::{AppId, Slot};
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
