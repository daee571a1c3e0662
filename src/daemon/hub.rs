//! Events: numbered, recorded, streamed to followers, and handed to the alert commands.
//!
//! They are recorded together with the records of the apps they are about. Were one written without the other, the
//! next daemon would do again what was told already, or never tell what was done.

use tokio::sync::broadcast;

use crate::daemon::voice::Voice;
use crate::model::event::{Event, EventKind};
use crate::model::time::WallTime;
use crate::store::Note;
use crate::supervise::EventDraft;

/// How many events a slow follower may lag behind before it misses some (it is told).
const LAG: usize = 256;

/// Where events go.
#[derive(Debug)]
pub(crate) struct Hub {
    last_seq: u64,
    /// To be written with the next records.
    notes: Vec<Note>,
    followers: broadcast::Sender<Event>,
    voice: Option<Voice>,
}

impl Hub {
    /// Numbers continue after `last_seq`.
    pub(crate) fn new(last_seq: u64) -> Self {
        Self {
            last_seq,
            notes: Vec::new(),
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

    /// Numbers and records an event about an app, but tells nobody yet.
    pub(crate) fn note(&mut self, at: WallTime, draft: EventDraft) -> Event {
        self.record(Event {
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
        })
    }

    /// Records and streams an event about clmgr itself.
    pub(crate) fn announce(&mut self, at: WallTime, kind: EventKind, message: impl Into<String>) -> Event {
        let event = self.record(Event {
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
        });
        self.tell(&event);
        event
    }

    /// Streams an event that was noted.
    pub(crate) fn tell(&self, event: &Event) {
        if let Some(voice) = &self.voice {
            voice.tell(event);
        }
        if self.followers.receiver_count() > 0 {
            // Without followers there is nobody to tell.
            let _told = self.followers.send(event.clone());
        }
    }

    /// Adds something else that is to be written with the next records.
    pub(crate) fn keep(&mut self, note: Note) {
        self.notes.push(note);
    }

    /// There is something to be written.
    pub(crate) const fn has_notes(&self) -> bool {
        !self.notes.is_empty()
    }

    /// Everything that is to be written.
    pub(crate) fn take_notes(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.notes)
    }

    fn record(&mut self, mut event: Event) -> Event {
        self.last_seq += 1;
        event.seq = self.last_seq;
        self.notes.push(Note::Event(Box::new(event.clone())));
        event
    }
}
