//! The store thread.

use std::collections::VecDeque;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::store::backup;
use crate::store::error::StoreError;
use crate::store::migrate::program;
use crate::store::note;
use crate::store::open::{DiskCheck, TroubleHook};
use crate::store::query;
use crate::store::queue::{Job, Queue};
use crate::store::reserve::Reserve;
use crate::store::state::{Change, Note};
use crate::store::write::{self, Tally};

/// Between two tries while writing fails.
const RETRY: Duration = Duration::from_secs(1);

/// A backup is made when there was nothing to do for this long after a change.
const SETTLE: Duration = Duration::from_secs(5);
/// And after so many turns of the loop at the latest.
const MOST_TURNS: u32 = 500;

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

/// What the thread needs besides the file.
pub(crate) struct Outside {
    pub(crate) on_trouble: TroubleHook,
    pub(crate) disk: DiskCheck,
    pub(crate) reserve: Reserve,
    /// The file.
    pub(crate) path: PathBuf,
}

pub(crate) struct Worker {
    connection: Connection,
    queue: Arc<Queue>,
    tally: Tally,
    outside: Outside,
    /// Not written yet.
    waiting: VecDeque<Note>,
    /// `waiting` had this length when it was last tried.
    tried: usize,
    trouble: bool,
    lost_events: u64,
    sync: Sync,
    /// The backup is older than the last change.
    backup_due: bool,
    /// Turns of the loop since that change.
    turns: u32,
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
    pub(crate) fn new(connection: Connection, queue: Arc<Queue>, tally: Tally, outside: Outside) -> Self {
        // The notes of an open that found a read-only disk have said so.
        let trouble = (outside.disk)().is_err();
        Self {
            connection,
            queue,
            tally,
            outside,
            waiting: VecDeque::new(),
            tried: 0,
            trouble,
            lost_events: 0,
            sync: Sync::Full,
            backup_due: true,
            turns: 0,
            handing_over: false,
        }
    }

    /// Until the queue is closed and empty.
    pub(crate) fn run(mut self) {
        loop {
            let wait = if self.trouble {
                Some(RETRY)
            } else {
                self.backup_due.then_some(SETTLE)
            };
            let taken = self.queue.take(wait);
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
            self.back_up(idle);
        }
        self.end();
    }

    fn perform(&mut self, job: Job) {
        match job {
            Job::Note(note) => self.waiting.push_back(note),
            Job::Commit(changes, reply) => {
                self.write_waiting(false);
                let mut result = self.commit(&changes);
                if matches!(result, Err(StoreError::Full)) && changes.iter().all(Change::takes_away) {
                    result = self.commit_with_reserve(&changes);
                }
                self.judge(result.as_ref().err());
                if result.is_ok() {
                    self.renew_reserve();
                    (self.backup_due, self.turns) = (true, 0);
                }
                reply(result);
            }
            Job::Events(query, reply) => {
                self.write_waiting(false);
                // What the disk does not take yet is known all the same.
                let unwritten = self.waiting.iter().filter_map(Note::event);
                reply(query::events(&self.connection, &query).map(|found| query.with(found, unwritten)));
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
                // In an outage nothing is known to be written before something was.
                let result = if self.waiting.is_empty() && !self.trouble {
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

    /// When changes have settled, or when there is always something to do.
    fn back_up(&mut self, idle: bool) {
        self.turns = self.turns.saturating_add(1);
        if self.backup_due && !self.trouble && (idle || self.turns > MOST_TURNS) {
            self.backup_due = false;
            // Without room for it the old one stays. It is tried again after the next change.
            let _kept = backup::save(&self.connection, &self.outside.path);
        }
    }

    /// What is stopped or deleted must be possible on a full disk, too.
    fn commit_with_reserve(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        if !self.outside.reserve.give_up() {
            return Err(StoreError::Full);
        }
        self.commit(changes)?;
        self.trouble = true;
        (self.outside.on_trouble)(
            true,
            "the disk is full; the reserve beside the state file was given up to write this stop, the next may not find room; free some space".to_owned(),
        );
        Ok(())
    }

    fn renew_reserve(&mut self) {
        if let Ok(free) = (self.outside.disk)() {
            self.outside.reserve.renew(free);
        }
    }

    /// An error if nothing that is written now would arrive.
    fn ask_disk(&self) -> Result<(), StoreError> {
        (self.outside.disk)()
            .map(drop)
            .map_err(|error| StoreError::ReadOnly(error.to_string()))
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        self.ask_disk()?;
        self.set_sync(Sync::Full)?;
        let failed = |source| StoreError::sqlite("write", source);
        let transaction =
            Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate).map_err(failed)?;
        write::apply(&transaction, changes, &self.tally)?;
        transaction.commit().map_err(failed)?;
        self.ask_disk()
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        self.try_waiting()?;
        self.set_sync(Sync::Full)?;
        self.connection
            .execute_batch("PRAGMA wal_checkpoint(PASSIVE)")
            .map_err(|source| StoreError::sqlite("flush", source))?;
        self.ask_disk()
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
        self.ask_disk()?;
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
        let before = (self.tally.reserved_runs, self.tally.events, self.tally.words);
        let written = note::write(&transaction, &self.waiting, &mut self.tally).and_then(|()| transaction.commit());
        if written.is_err() {
            (self.tally.reserved_runs, self.tally.events, self.tally.words) = before;
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
                    (self.outside.on_trouble)(true, message);
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
                    (self.outside.on_trouble)(false, message);
                    self.renew_reserve();
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
            self.back_up(true);
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
