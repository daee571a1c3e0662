//! What the worker is told: carried out in order, between two rounds of reading.

use std::path::PathBuf;
use std::sync::mpsc::TryRecvError;

use crate::logs::file::{Writer, flush};
use crate::logs::pump::Command;
use crate::logs::pump::stream::outlet_of;
use crate::logs::pump::worker::{DRAIN, Worker};
use crate::logs::sink::{Loss, Notice};
use crate::logs::watch::Watch;
use crate::logs::words;
use crate::model::logspec;
use crate::model::names::RunId;

impl Worker {
    /// False when there will be no more.
    pub(super) fn commands(&mut self) -> bool {
        loop {
            match self.queue.try_recv() {
                Ok(command) => self.perform(command),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn perform(&mut self, command: Command) {
        self.tick();
        match command {
            Command::Attach(key, pipe, sink) => {
                if let Err(error) = self.attach(key, pipe, &sink) {
                    (self.ctx.notify)(Notice::Lost(Loss {
                        app: sink.origin.app.clone(),
                        slot: sink.origin.slot,
                        path: sink.path.clone(),
                        lines: 0,
                        bytes: 0,
                        error: error.to_string(),
                    }));
                }
            }
            Command::Drain(run) => {
                self.drain(run);
                let stderr = self.last_lines(run);
                if let Some(state) = self.runs.get_mut(&run) {
                    state.drained = true;
                }
                self.forget_ended(run);
                (self.ctx.notify)(Notice::Drained { run, stderr });
            }
            Command::Detach(run) => {
                self.drain(run);
                for id in self.ids(run) {
                    self.remove(id);
                }
                self.forget(run);
            }
            Command::Flush(paths) => self.flush(&paths),
            Command::Know(app, logs) => self.ctx.tidy.know(app, logs, self.ctx.now),
            Command::Reopen(paths) => self.reopen(paths.as_deref()),
            Command::WatchLine(run, pattern) => {
                self.runs.entry(run).or_default().watch = Some(Box::new(Watch::new(*pattern)));
            }
            Command::Tail(run, reply) => reply(self.last_lines(run)),
            Command::Sync(done) => done(),
            Command::Console(stream, console) => self.open_outlet(outlet_of(stream), console),
            Command::Targets(sockets) => self.open_remotes(sockets),
            Command::Say(lines) => {
                if let Some(outlet) = &mut self.ctx.outlets[outlet_of(logspec::Stream::Err)] {
                    outlet.push(b"", &lines);
                }
            }
            Command::Times(folder) => {
                let _set = self.ctx.compressor.shelf().times.set(folder.as_path().into());
                // Without it times are missing, and nothing else.
                let _begun = self.ctx.times.begin(self.ctx.now, folder);
            }
            Command::ForgetUnclaimed => {
                if let Some(journal) = &mut self.ctx.journal {
                    journal.forget_unclaimed();
                    words::forget_others(journal.folder(), |run| self.runs.contains_key(&run));
                }
            }
        }
    }

    fn drain(&mut self, run: RunId) {
        for id in self.ids(run) {
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.exited = true;
            }
            // What is left when so much was read was written after the exit: its line goes on.
            if self.serve(id, DRAIN, true)
                && let Some(stream) = self.streams.get_mut(&id)
            {
                stream.finish_line(&mut self.ctx, &mut self.scratch);
            }
            self.wait_for_room(id);
        }
    }

    fn last_lines(&self, run: RunId) -> Vec<String> {
        let last = self.runs.get(&run).and_then(|run| run.last.as_ref());
        last.map(|last| last.lines()).unwrap_or_default()
    }

    fn reopen(&mut self, paths: Option<&[PathBuf]>) {
        for (path, file) in &self.files {
            if paths.is_none_or(|paths| paths.iter().any(|wanted| **wanted == **path)) {
                file.borrow_mut().reopen(&mut self.ctx);
            }
        }
    }

    fn flush(&mut self, paths: &[PathBuf]) {
        if let Some(journal) = &mut self.ctx.journal {
            journal.settle();
        }
        for path in paths {
            match self.files.get(path.as_path()) {
                Some(file) => {
                    let streams = &self.streams;
                    let lives = |writer: Option<Writer>| match writer {
                        Some(writer) => streams.contains_key(&writer),
                        None => streams.values().any(|stream| stream.adopted),
                    };
                    file.borrow_mut().flush(&mut self.ctx, lives);
                }
                None => flush(path, self.ctx.compressor.shelf()),
            }
        }
        self.hurry();
    }
}
