//! How a stream begins: its pipe, its files, and what a former process had read of it.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::epoll::{EpollEvent, EpollFlags};

use crate::logs::file::{LogFile, Writer};
use crate::logs::frame::Framing;
use crate::logs::pump::stream::{ConsoleEnd, SharedFile, Stream};
use crate::logs::pump::worker::Worker;
use crate::logs::sink::{Sink, StreamKey};
use crate::logs::target::Ends;
use crate::logs::words::LastWords;
use crate::model::logspec;

/// Writing here is the same as writing nothing, and needs no journal.
const NULL: &str = "/dev/null";

impl Worker {
    pub(super) fn attach(&mut self, key: StreamKey, pipe: OwnedFd, sink: &Sink) -> io::Result<()> {
        let flags = OFlag::from_bits_retain(fcntl(&pipe, FcntlArg::F_GETFL)?);
        fcntl(&pipe, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        let gate = self.gate(&pipe, sink)?;
        let framing = Rc::new(Framing::new(
            &sink.format,
            sink.zone.as_deref(),
            &sink.origin,
            key.stream,
            &mut self.ctx.stampers,
        ));
        let id = self.next;
        self.epoll.add(&pipe, EpollEvent::new(EpollFlags::EPOLLIN, id))?;
        self.next += 1;
        let second = sink.log_file.as_ref().filter(|second| **second != sink.path);
        let (file, log_file) = if sink.disabled {
            (None, None)
        } else {
            let mut open = |path: &Path| (path != Path::new(NULL)).then(|| self.file(path, sink, &framing));
            (open(&sink.path), second.and_then(|path| open(path)))
        };
        let console = ConsoleEnd::new(key, sink, &mut self.ctx);
        let ends = Ends::new(sink, key.stream, &mut self.ctx.remotes);
        let run = self.runs.entry(key.run).or_default();
        let old = run.streams[usize::from(key.stream == logspec::Stream::Err)].replace(id);
        run.drained = false;
        self.streams.insert(
            id,
            Stream {
                key,
                pipe,
                id,
                framing,
                file,
                log_file,
                console,
                ends,
                shared: sink.shared || (sink.log_file.is_some() && second.is_none()),
                adopted: sink.adopted,
                held: Vec::new(),
                parked: 0,
                refused: None,
                patient: sink.overflow == logspec::Overflow::Block,
                finishing: false,
                streak: 0,
                large_pipe: false,
                gate,
                exited: false,
            },
        );
        self.ctx.counters.streams.fetch_add(1, Ordering::Relaxed);
        if let Some(old) = old {
            self.remove(old);
        }
        if sink.adopted {
            self.write_claimed(id);
        }
        Ok(())
    }

    /// What a former process had read of this stream comes before what is in its pipe.
    fn write_claimed(&mut self, id: Writer) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let Some(journal) = &mut self.ctx.journal else { return };
        let key = stream.key;
        let last = (key.stream == logspec::Stream::Err).then(|| {
            let run = self.runs.entry(key.run).or_default();
            run.last
                .insert(Box::new(LastWords::again(Some(journal.folder()), key.run)))
        });
        let data = journal.claim(key);
        if data.is_empty() {
            return;
        }
        if let Some(last) = last {
            last.push_again(&data);
        }
        stream.write_claimed(&mut self.ctx, &mut self.scratch, &data);
        self.wait_for_room(id);
    }

    fn file(&mut self, path: &Path, sink: &Sink, framing: &Rc<Framing>) -> SharedFile {
        if let Some(file) = self.files.get(path) {
            for stream in self.streams.values_mut() {
                if stream.file.as_ref().is_some_and(|other| Rc::ptr_eq(other, file)) {
                    stream.hold_back(&mut self.ctx, &mut self.scratch);
                }
            }
            let mut known = file.borrow_mut();
            known.configure(&sink.rotate, framing, &sink.origin);
            known.count_in(sink.zone.as_deref());
            drop(known);
            return Rc::clone(file);
        }
        let path: Rc<Path> = path.into();
        if sink.adopted && sink.rotate.compress {
            // The file may not be written again for a long time.
            self.ctx.compressor.resume(&path);
        }
        let mut file = LogFile::new(
            Rc::clone(&path),
            sink.rotate.clone(),
            sink.private_folder,
            Rc::clone(framing),
            Arc::clone(&sink.origin),
        );
        file.count_in(sink.zone.as_deref());
        let file = Rc::new(RefCell::new(file));
        self.files.insert(path, Rc::clone(&file));
        file
    }
}
