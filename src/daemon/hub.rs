//! Events: numbered, recorded, streamed to followers, and handed to the alert commands.

use tokio::sync::broadcast;

use crate::daemon::voice::Voice;
use crate::model::event::{Event, EventKind};
use crate::model::time::WallTime;
use crate::store::{Note, Store};
use crate::supervise::EventDraft;

/// How many events a slow follower may lag behind before it misses some (it is told).
const LAG: usize = 256;

/// Where events go.
#[derive(Debug)]
pub(crate) struct Hub {
    store: Store,
    last_seq: u64,
    followers: broadcast::Sender<Event>,
    voice: Option<Voice>,
}

impl Hub {
    /// Numbers continue after `last_seq`.
    pub(crate) fn new(store: Store, last_seq: u64) -> Self {
        Self {
            store,
            last_seq,
            followers: broadcast::Sender::new(LAG),
            voice: None,
        }
    }

    /// Says aloud what is recorded from now on.
    pub(crate) fn speak(&mut self, voice: Voice) {
        self.voice = Some(voice);
    }

    /// Says a line, where there is a voice.
    pub(crate) fn say(&self, text: &str) {
        if let Some(voice) = &self.voice {
            voice.say(text);
        }
    }

    /// Everything from now on.
    pub(crate) fn follow(&self) -> broadcast::Receiver<Event> {
        self.followers.subscribe()
    }

    /// Records and streams an event about an app.
    pub(crate) fn publish(&mut self, at: WallTime, draft: EventDraft) -> Event {
        let event = Event {
            seq: 0,
            at,
            kind: draft.kind,
            app: Some(draft.app),
            namespace: Some(draft.namespace),
            slot: draft.slot,
            pid: draft.pid,
            message: draft.message,
            exit: draft.exit,
            stderr: draft.stderr,
        };
        self.record(event)
    }

    /// Records and streams an event about clmgr itself.
    pub(crate) fn announce(&mut self, at: WallTime, kind: EventKind, message: impl Into<String>) -> Event {
        self.record(Event {
            seq: 0,
            at,
            kind,
            app: None,
            namespace: None,
            slot: None,
            pid: None,
            message: message.into(),
            exit: None,
            stderr: Vec::new(),
        })
    }

    fn record(&mut self, mut event: Event) -> Event {
        self.last_seq += 1;
        event.seq = self.last_seq;
        if let Some(voice) = &self.voice {
            voice.tell(&event);
        }
        self.store.note(Note::Event(Box::new(event.clone())));
        if self.followers.receiver_count() > 0 {
            // Without followers there is nobody to tell.
            let _told = self.followers.send(event.clone());
        }
        event
    }
}
