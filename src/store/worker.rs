//! The store thread.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::store::error::StoreError;
use crate::store::migrate::program;
use crate::store::note;
use crate::store::open::TroubleHook;
use crate::store::query;
use crate::store::queue::{Job, Queue};
use crate::store::state::{Change, Note};
use crate::store::write::{self, Tally};

/// Between two tries while writing fails.
const RETRY: Duration = Duration::from_secs(1);

/// Notes that may come in during an outage before a try is made without waiting for [`RETRY`].
const IMPATIENCE: usize = 64;

/// How sure a transaction is once COMMIT returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sync {
    /// It survives a power cut.
    Full,
    /// It survives the death of this process.
    Normal,
}

pub(crate) struct Worker {
    connection: Connection,
    queue: Arc<Queue>,
    tally: Tally,
    on_trouble: TroubleHook,
    /// Not written yet.
    waiting: VecDeque<Note>,
    /// `waiting` had this length when it was last tried.
    tried: usize,
    trouble: bool,
    lost_events: u64,
    sync: Sync,
    /// Another process opens the file as soon as this one has closed it.
    handing_over: bool,
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("trouble", &self.trouble)
            .finish_non_exhaustive()
    }
}

impl Worker {
    pub(crate) fn new(connection: Connection, queue: Arc<Queue>, tally: Tally, on_trouble: TroubleHook) -> Self {
        Self {
            connection,
            queue,
            tally,
            on_trouble,
            waiting: VecDeque::new(),
            tried: 0,
            trouble: false,
            lost_events: 0,
            sync: Sync::Full,
            handing_over: false,
        }
    }

    /// Until the queue is closed and empty.
    pub(crate) fn run(mut self) {
        loop {
            let taken = self.queue.take(self.trouble.then_some(RETRY));
            self.lost_events += taken.lost_events;
            let idle = taken.jobs.is_empty();
            for job in taken.jobs {
                self.perform(job);
            }
            if !self.trouble || idle || taken.closed || self.waiting.len() >= self.tried + IMPATIENCE {
                self.write_waiting(true);
            }
            if taken.closed {
                break;
            }
        }
        self.end();
    }

    fn perform(&mut self, job: Job) {
        match job {
            Job::Note(note) => self.waiting.push_back(note),
            Job::Commit(changes, reply) => {
                self.write_waiting(false);
                let result = self.commit(&changes);
                self.judge(result.as_ref().err());
                reply(result);
            }
            Job::Events(query, reply) => {
                self.write_waiting(false);
                reply(query::events(&self.connection, &query));
            }
            Job::Crashes(app, limit, reply) => {
                self.write_waiting(false);
                reply(query::crashes(&self.connection, app, limit));
            }
            Job::Flush(reply) => {
                let result = self.flush();
                self.judge(result.as_ref().err());
                reply(result);
            }
            Job::Write(reply) => {
                let result = if self.waiting.is_empty() {
                    Ok(())
                } else {
                    self.try_waiting()
                };
                self.judge(result.as_ref().err());
                reply(result);
            }
            Job::HandOver => self.handing_over = true,
            #[cfg(test)]
            Job::Inspect(look) => look(&self.connection),
        }
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        self.set_sync(Sync::Full)?;
        let failed = |source| StoreError::sqlite("write", source);
        let transaction =
            Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate).map_err(failed)?;
        write::apply(&transaction, changes, &self.tally)?;
        transaction.commit().map_err(failed)
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        self.try_waiting()?;
        self.set_sync(Sync::Full)?;
        self.connection
            .execute_batch("PRAGMA wal_checkpoint(PASSIVE)")
            .map_err(|source| StoreError::sqlite("flush", source))
    }

    /// In an outage even an empty transaction tells something: `probe` asks for it.
    fn write_waiting(&mut self, probe: bool) {
        if !self.waiting.is_empty() || (self.trouble && probe) {
            let result = self.try_waiting();
            self.judge(result.as_ref().err());
        }
    }

    fn try_waiting(&mut self) -> Result<(), StoreError> {
        self.lost_events += note::thin_out(&mut self.waiting, |note: &Note| Some(note));
        self.tried = self.waiting.len();
        let failed = |source| StoreError::sqlite("write", source);
        // A new block of run numbers must not be lost, or numbers would be used twice.
        let sync = if self.waiting.iter().any(|note| needs_block(note, &self.tally)) {
            Sync::Full
        } else {
            Sync::Normal
        };
        self.set_sync(sync)?;
        let transaction =
            Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate).map_err(failed)?;
        if self.trouble {
            transaction
                .execute("UPDATE meta SET value = ?1 WHERE key = 'written_by'", [program()])
                .map_err(failed)?;
        }
        let before = (self.tally.reserved_runs, self.tally.events);
        let written = note::write(&transaction, &self.waiting, &mut self.tally).and_then(|()| transaction.commit());
        if written.is_err() {
            (self.tally.reserved_runs, self.tally.events) = before;
        }
        written.map_err(failed)?;
        self.waiting.clear();
        // A burst must not be paid for in memory ever after.
        self.waiting.shrink_to(64);
        self.tried = 0;
        Ok(())
    }

    /// Says once that an outage began or ended.
    fn judge(&mut self, error: Option<&StoreError>) {
        match error {
            Some(error) if error.is_outage() => {
                if !std::mem::replace(&mut self.trouble, true) {
                    let message = match std::error::Error::source(error) {
                        Some(cause) => format!("{error}: {cause}"),
                        None => error.to_string(),
                    };
                    (self.on_trouble)(true, message);
                }
            }
            // A refused change says nothing about the disk.
            Some(_) => {}
            None => {
                if self.waiting.is_empty() && std::mem::replace(&mut self.trouble, false) {
                    let message = match std::mem::take(&mut self.lost_events) {
                        0 => "the state can be written again; nothing was lost".to_owned(),
                        lost => format!("the state can be written again; {lost} events were lost"),
                    };
                    (self.on_trouble)(false, message);
                }
            }
        }
    }

    fn set_sync(&mut self, sync: Sync) -> Result<(), StoreError> {
        if self.sync != sync {
            let sql = match sync {
                Sync::Full => "PRAGMA synchronous = FULL",
                Sync::Normal => "PRAGMA synchronous = NORMAL",
            };
            self.connection
                .execute_batch(sql)
                .map_err(|source| StoreError::sqlite("write", source))?;
            self.sync = sync;
        }
        Ok(())
    }

    /// The best that can be done; there is nobody left to tell.
    fn end(mut self) {
        // What was promised is on the disk already. The mark is the last entry of the log: if a power cut leaves it
        // there, it has left everything.
        let sync = if self.handing_over { Sync::Normal } else { Sync::Full };
        let clean = self.waiting.is_empty() && self.set_sync(sync).is_ok();
        if clean {
            drop(self.connection.execute(
                "INSERT OR REPLACE INTO meta (key, value) VALUES ('clean', ?1)",
                [program()],
            ));
        }
        if self.handing_over {
            // The next one reads the log where it is.
            let keep = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
            drop(self.connection.set_db_config(keep, true));
        } else {
            drop(self.connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)"));
        }
    }
}

impl Drop for Worker {
    /// Also when a reply panics: later callers are told instead of waiting for ever.
    fn drop(&mut self) {
        self.queue.close();
        for job in self.queue.take(Some(Duration::ZERO)).jobs {
            job.refuse();
        }
    }
}

fn needs_block(note: &Note, tally: &Tally) -> bool {
    match note {
        Note::RunStarted(row) => tally.is_near_end(row.run.0),
        Note::Runtime(_) | Note::RunEnded { .. } | Note::Event(_) | Note::Crash { .. } => false,
    }
}
