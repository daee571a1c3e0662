//! The side of the store that the rest of the daemon holds.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

use rusqlite::Connection;

use crate::api::status::Crash;
use crate::model::event::Event;
use crate::model::names::AppId;
use crate::store::error::StoreError;
use crate::store::query::EventQuery;
use crate::store::queue::{Job, Queue, Reply};
use crate::store::state::{Change, Note};
use crate::store::worker::{Outside, Worker};
use crate::store::write::Tally;

/// SQLite parses and JSON nests shallowly; only touched pages count.
const STACK: usize = 512 << 10;

/// A handle on the store thread. Clones are the same store. When the last one goes, what waits is
/// written and the file is closed.
#[derive(Clone, Debug)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    queue: Arc<Queue>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Store {
    pub(crate) fn start(connection: Connection, tally: Tally, outside: Outside) -> Result<Self, StoreError> {
        let queue = Arc::new(Queue::new());
        let worker = Worker::new(connection, Arc::clone(&queue), tally, outside);
        let thread = Builder::new()
            .name("store".to_owned())
            .stack_size(STACK)
            .spawn(move || worker.run())
            .map_err(StoreError::Thread)?;
        Ok(Self(Arc::new(Inner {
            queue,
            thread: Mutex::new(Some(thread)),
        })))
    }

    /// Makes these changes durable, all or none, in one transaction. The reply comes after the disk has
    /// them; it must not block, because it runs on the store thread.
    pub fn commit(&self, changes: Vec<Change>, reply: Reply<()>) {
        self.0.queue.push(Job::Commit(changes, reply));
    }

    /// Records something that happened, soon.
    pub fn note(&self, note: Note) {
        self.0.queue.push(Job::Note(note));
    }

    /// Reads events; notes given before are seen.
    pub fn events(&self, query: EventQuery, reply: Reply<Vec<Event>>) {
        self.0.queue.push(Job::Events(query, reply));
    }

    /// Reads the newest crashes of an app, newest first.
    pub fn crashes(&self, app: AppId, limit: u32, reply: Reply<Vec<Crash>>) {
        self.0.queue.push(Job::Crashes(app, limit, reply));
    }

    /// Answers when everything given before is written, so that the death of this process does not lose it;
    /// a power cut may.
    pub fn write(&self, reply: Reply<()>) {
        self.0.queue.push(Job::Write(reply));
    }

    /// Answers when everything given before is on the disk, or why it is not.
    pub fn flush(&self, reply: Reply<()>) {
        self.0.queue.push(Job::Flush(reply));
    }

    /// Writes what waits, folds the log into the file, closes it and ends the thread. Blocks until then.
    /// Later calls on any clone are answered with [`StoreError::Closed`].
    pub fn shut_down(&self) {
        self.0.end();
    }

    /// The same for a process that makes room for another one: nothing waits for the disk, and the log stays beside
    /// the file. What was answered is as safe as before.
    pub fn hand_over(&self) {
        self.0.queue.push(Job::HandOver);
        self.0.end();
    }

    #[cfg(test)]
    pub(crate) fn inspect(&self, look: impl FnOnce(&Connection) + Send + 'static) {
        self.0.queue.push(Job::Inspect(Box::new(look)));
    }
}

impl Inner {
    fn end(&self) {
        self.queue.close();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // The last handle may go inside a reply, on the thread itself.
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != std::thread::current().id()) {
            // A panic of the thread was reported by the panic hook.
            drop(thread.join());
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.end();
    }
}
