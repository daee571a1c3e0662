//! Notices that the home was removed: no command reaches this daemon any more, and nothing that it writes is kept.

use crate::daemon::Daemon;
use crate::model::event::EventKind;
use crate::os::clock;
use crate::os::former::Watch;

impl Daemon {
    /// Says so once, when it happens.
    pub(crate) fn watch_home(&self) {
        let path = self.home.lock();
        let mail = self.mail.clone();
        let begun = Watch::begin(&path).and_then(|watch| Ok((crate::os::watch::for_reading(watch.events()?)?, watch)));
        let (events, watch) = match begun {
            Ok(begun) => begun,
            Err(error) => {
                tracing::warn!("{} cannot be watched: {error}", path.display());
                return;
            }
        };
        tokio::spawn(async move {
            while let Ok(mut ready) = events.readable().await {
                ready.clear_ready();
                if watch.is_former(&path) {
                    mail.post(Daemon::homeless);
                    return;
                }
            }
        });
    }

    fn homeless(&mut self) {
        let message = format!(
            "the home {} was removed while clmgr works in it: {} processes go on, but no command reaches them and \
             nothing is kept; kill {} stops them and clmgr",
            self.home.state.display(),
            self.handles.len(),
            self.keeper_pid,
        );
        tracing::error!("{message}");
        self.hub.announce(clock::wall(), EventKind::StateLost, message);
    }
}
