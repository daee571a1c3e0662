//! Apps and instances that come while their logs are followed.

use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::thread;
use std::time::Duration;

use crate::api::logs::LogSources;
use crate::api::routes;
use crate::cli::connect::Daemon;
use crate::model::event::EventKind;
use crate::model::time::WallTime;

/// Between two attempts to reach a daemon that is being replaced.
const RETRY: Duration = Duration::from_secs(1);

/// Listens for starts on a thread of its own. A daemon that is gone is waited for, never started.
#[derive(Debug)]
pub(super) struct Arrivals {
    news: Receiver<()>,
    query: Vec<(&'static str, String)>,
    /// Dropped with the rest; ends the thread.
    _end: Sender<()>,
}

impl Arrivals {
    /// Listens for what started after `began`; `query` says which log files are meant.
    pub(super) fn listen(query: Vec<(&'static str, String)>, began: WallTime) -> Self {
        // One piece of news is as good as many.
        let (tell, news) = sync_channel(1);
        let (end, ended) = channel();
        thread::spawn(move || wait(&tell, &ended, began));
        Self { news, query, _end: end }
    }

    /// The log files there are now, if something started since the last call.
    pub(super) fn sources(&self) -> Option<LogSources> {
        self.news.try_recv().ok()?;
        let mut daemon = Daemon::running().ok().flatten()?;
        daemon.get(routes::LOG_SOURCES, &self.query).ok()
    }
}

fn wait(tell: &SyncSender<()>, ended: &Receiver<()>, began: WallTime) {
    // Not by target: an app that is no part of a namespace yet may become one.
    let query = [
        ("kind", EventKind::Started.to_string()),
        ("since", began.0.max(0).to_string()),
        ("follow", "true".to_owned()),
    ];
    let gone = |told: Result<(), TrySendError<()>>| matches!(told, Err(TrySendError::Disconnected(())));
    loop {
        if let Ok(Some(mut daemon)) = Daemon::running() {
            let _ = daemon.stream(routes::EVENTS, &query, |_| {
                if gone(tell.try_send(())) {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            });
        }
        // Whatever started while nobody listened.
        if gone(tell.try_send(())) || ended.recv_timeout(RETRY) == Err(RecvTimeoutError::Disconnected) {
            return;
        }
    }
}
