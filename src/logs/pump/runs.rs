//! What the worker knows of a run, and how its streams end.

use std::rc::Rc;
use std::sync::atomic::Ordering;

use crate::logs::file::Writer;
use crate::logs::pump::stream::SharedFile;
use crate::logs::pump::worker::Worker;
use crate::logs::watch::Watch;
use crate::logs::words::LastWords;
use crate::model::names::RunId;

/// What is kept of a run.
#[derive(Default)]
pub(super) struct Run {
    /// Its attached streams, by [`Stream`](crate::model::logspec::Stream).
    pub(super) streams: [Option<Writer>; 2],
    pub(super) last: Option<Box<LastWords>>,
    pub(super) watch: Option<Box<Watch>>,
    pub(super) drained: bool,
}

impl Worker {
    pub(super) fn ids(&self, run: RunId) -> impl Iterator<Item = Writer> + use<> {
        self.runs
            .get(&run)
            .map_or([None, None], |run| run.streams)
            .into_iter()
            .flatten()
    }

    /// Ends a stream. The keeper has the same pipe open, so closing alone would not end its events.
    pub(super) fn remove(&mut self, id: Writer) {
        if let Some(mut stream) = self.streams.remove(&id) {
            self.leave_gate(&mut stream);
            stream.finish_line(&mut self.ctx, &mut self.scratch);
            self.streams.insert(id, stream);
        }
        if self.lingers(id) {
            return;
        }
        self.refused.remove(&id);
        let Some(mut stream) = self.streams.remove(&id) else {
            return;
        };
        let _known = self.epoll.delete(&stream.pipe);
        self.ctx.counters.streams.fetch_sub(1, Ordering::Relaxed);
        let key = stream.key;
        if let Some(journal) = self.ctx.journal.as_ref().filter(|_| stream.parked > 0) {
            journal.forget(key);
        }
        let paths: Vec<SharedFile> = [stream.file.take(), stream.log_file.take()]
            .into_iter()
            .flatten()
            .collect();
        for file in paths {
            // One count is the table's, one is this.
            if Rc::strong_count(&file) == 2 && !file.borrow().failing() {
                self.files.remove(file.borrow().path());
            }
        }
        self.forget_stream(key.run, id);
    }

    /// This stream is not the run's any more.
    pub(super) fn forget_stream(&mut self, run: RunId, id: Writer) {
        if let Some(run) = self.runs.get_mut(&run) {
            run.streams
                .iter_mut()
                .filter(|other| **other == Some(id))
                .for_each(|other| *other = None);
        }
        self.forget_ended(run);
    }

    pub(super) fn forget_ended(&mut self, run: RunId) {
        if self
            .runs
            .get(&run)
            .is_some_and(|run| run.drained && run.streams == [None, None])
        {
            self.forget(run);
        }
    }

    pub(super) fn forget(&mut self, run: RunId) {
        if let Some(last) = self.runs.remove(&run).and_then(|run| run.last) {
            last.forget();
        }
    }
}
