//! The held files: the beginnings of unfinished lines, one of each stream.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;

use rustix::fs::unlink;

use crate::logs::journal::Journal;
use crate::logs::moment;
use crate::logs::sink::StreamKey;
use crate::model::logspec::Stream;
use crate::model::names::RunId;

impl Journal {
    /// What a former process had read of this stream and not written.
    pub fn claim(&mut self, key: StreamKey) -> Vec<u8> {
        let Some(at) = self.orphans.iter().position(|orphan| *orphan == key) else {
            return Vec::new();
        };
        self.orphans.swap_remove(at);
        match self.recovered.take_if(|(known, _)| *known == key) {
            Some((_, bytes)) => bytes,
            None => fs::read(self.held_path(key)).unwrap_or_default(),
        }
    }

    /// Forgets what nobody claimed: those runs are over and their pipes are gone.
    pub fn forget_unclaimed(&mut self) {
        self.recovered = None;
        for key in std::mem::take(&mut self.orphans) {
            self.forget(key);
        }
    }

    /// A stream is gone with everything it held.
    pub fn forget(&self, key: StreamKey) {
        moment::pass();
        // There is none, nearly always.
        let _gone = unlink(self.held_path(key));
    }

    pub(super) fn held_path(&self, key: StreamKey) -> PathBuf {
        self.folder.join(format!("{}-{}", key.run.0, key.stream.as_str()))
    }

    pub(super) fn held_files(&self) -> io::Result<Vec<StreamKey>> {
        let key = |name: &str| {
            let (run, stream) = name.split_once('-')?;
            Some(StreamKey {
                run: RunId(run.parse().ok()?),
                stream: [Stream::Out, Stream::Err]
                    .into_iter()
                    .find(|known| known.as_str() == stream)?,
            })
        };
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            found.extend(entry?.file_name().to_str().and_then(key));
        }
        Ok(found)
    }

    fn held_file(&self, key: StreamKey) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        options.open(self.held_path(key))
    }

    /// The held file has nothing but these bytes. It may be cut and written in any order: what it had is in the logs.
    pub(super) fn replace(&self, key: StreamKey, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            self.forget(key);
            return Ok(());
        }
        let file = self.held_file(key)?;
        moment::write(&file, bytes, 0);
        file.write_all_at(bytes, 0)?;
        moment::pass();
        file.set_len(bytes.len() as u64)
    }

    /// The held file has these bytes after its first `held`, which are not touched.
    pub(super) fn extend(&self, key: StreamKey, held: u64, bytes: &[u8]) -> io::Result<()> {
        let file = self.held_file(key)?;
        moment::write(&file, bytes, held);
        file.write_all_at(bytes, held)?;
        moment::pass();
        file.set_len(held + bytes.len() as u64)
    }
}
