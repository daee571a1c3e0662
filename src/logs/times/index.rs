//! The index of one log as a file: a header that says whose it is, then entries.
//!
//! ```text
//! magic 8 │ size of the header 4 │ tag 8 │ device 8 │ inode 8 │ born 8 │ compressed size 8 │
//! first bytes: count 4, CRC 4 │ path … │ CRC of all this 4 │ entries of 12 bytes …
//! ```

use std::ffi::OsString;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use flate2::Crc;
use rustix::fs::unlink;

use crate::logs::moment;
use crate::logs::times::entry::{Entry, SIZE};

const MAGIC: &[u8; 8] = b"clmgrTI1";
/// Header without the path: magic, size, six numbers of 8 bytes less one, two of 4, and the CRC.
const FIXED: usize = 8 + 4 + 5 * 8 + 2 * 4 + 4 + 4;
/// Longer paths do not exist.
const MAX_HEAD: usize = FIXED + 4096;
/// So many bytes at the beginning of the log are compared.
const FIRST: usize = 64;

/// Device and inode.
pub(super) type Id = (u64, u64);

pub(super) fn id_of(meta: &Metadata) -> Id {
    (meta.dev(), meta.ino())
}

/// The index of this file.
pub(super) fn name(folder: &Path, id: Id) -> PathBuf {
    folder.join(format!("{:x}-{:x}", id.0, id.1))
}

/// Removes the index of this file, if it has one.
pub(super) fn remove(folder: &Path, id: Id) {
    let _gone = unlink(name(folder, id));
}

pub(super) fn crc(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// Whose index it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Never the same twice.
    pub(super) tag: u64,
    pub(super) id: Id,
    /// When the file was made, in nanoseconds since 1970: a reused inode has another time. 0 where nobody knows.
    born: u64,
    /// The size of a compressed file; 0 for a log as it was written.
    packed: u64,
    /// Its first bytes: how many, and their CRC. None were looked at if the file is compressed, or not readable.
    first: (u32, u32),
    /// Where the log was when the index was begun.
    pub(super) path: PathBuf,
}

impl Header {
    /// Of a log that is written now.
    pub(super) fn of_log(tag: u64, file: &File, path: &Path) -> io::Result<Self> {
        let meta = file.metadata()?;
        Ok(Self {
            tag,
            id: id_of(&meta),
            born: born(&meta),
            packed: 0,
            first: first(file, FIRST),
            path: path.to_owned(),
        })
    }

    /// Of the compressed copy of the log that this is the header of.
    pub(super) fn packed(&self, copy: &Metadata) -> Self {
        Self {
            id: id_of(copy),
            born: born(copy),
            packed: copy.len(),
            first: (0, 0),
            ..self.clone()
        }
    }

    /// Whether the offsets are not those of the file's own bytes.
    pub(super) const fn is_packed(&self) -> bool {
        self.packed > 0
    }

    /// Whether it is the index of this file, and not of one that had its inode before.
    pub(super) fn is_of(&self, file: &File, meta: &Metadata) -> bool {
        let born = born(meta);
        self.id == id_of(meta)
            && (self.born == 0 || born == 0 || self.born == born)
            && (!self.is_packed() || self.packed == meta.len())
            && (self.first.0 == 0 || first(file, self.first.0 as usize) == self.first)
    }

    fn encode(&self) -> Vec<u8> {
        let path = self.path.as_os_str().as_bytes();
        let mut bytes = MAGIC.to_vec();
        let size = u32::try_from(FIXED + path.len()).unwrap_or(u32::MAX);
        bytes.extend(size.to_le_bytes());
        for number in [self.tag, self.id.0, self.id.1, self.born, self.packed] {
            bytes.extend(number.to_le_bytes());
        }
        for number in [
            self.first.0,
            self.first.1,
            u32::try_from(path.len()).unwrap_or(u32::MAX),
        ] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(path);
        bytes.extend(crc(&bytes).to_le_bytes());
        bytes
    }

    /// The header and its size.
    fn decode(bytes: &[u8]) -> Option<(Self, u64)> {
        let mut rest = bytes.strip_prefix(MAGIC)?;
        let size = short(&mut rest)? as usize;
        let (checked, sum) = bytes.get(..size)?.split_last_chunk::<4>()?;
        if crc(checked) != u32::from_le_bytes(*sum) {
            return None;
        }
        let mut numbers = [0; 5];
        for number in &mut numbers {
            *number = long(&mut rest)?;
        }
        let first = (short(&mut rest)?, short(&mut rest)?);
        let length = short(&mut rest)? as usize;
        let [tag, dev, ino, born, packed] = numbers;
        let header = Self {
            tag,
            id: (dev, ino),
            born,
            packed,
            first,
            path: OsString::from_vec(rest.get(..length)?.to_vec()).into(),
        };
        Some((header, size as u64))
    }
}

/// Takes eight bytes.
pub(super) fn long(rest: &mut &[u8]) -> Option<u64> {
    let (head, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(u64::from_le_bytes(*head))
}

/// Takes four bytes.
pub(super) fn short(rest: &mut &[u8]) -> Option<u32> {
    let (head, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(u32::from_le_bytes(*head))
}

fn born(meta: &Metadata) -> u64 {
    let since = meta
        .created()
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or_default())
}

/// The CRC of at most so many bytes.
fn first(file: &File, most: usize) -> (u32, u32) {
    let mut bytes = [0; FIRST];
    let most = most.min(FIRST);
    let count = bytes
        .get_mut(..most)
        .map_or(0, |part| file.read_at(part, 0).unwrap_or(0));
    (
        u32::try_from(count).unwrap_or(0),
        crc(bytes.get(..count).unwrap_or_default()),
    )
}

/// An open index.
#[derive(Debug)]
pub(super) struct Index {
    pub(super) header: Header,
    file: File,
    /// Bytes of the header.
    head: u64,
    /// Whole entries.
    pub(super) count: u64,
}

impl Index {
    /// Opens the index that has this file's name; whether it is the file's is another question. None if there is no
    /// whole one.
    pub(super) fn open(folder: &Path, id: Id, write: bool) -> Option<Self> {
        Self::open_at(&name(folder, id), write)
    }

    /// The same by the index's own path.
    pub(super) fn open_at(path: &Path, write: bool) -> Option<Self> {
        let file = OpenOptions::new().read(true).write(write).open(path).ok()?;
        let mut bytes = vec![0; MAX_HEAD];
        let count = file.read_at(&mut bytes, 0).ok()?;
        let (header, head) = Header::decode(bytes.get(..count)?)?;
        let size = file.metadata().ok()?.len();
        let count = size.checked_sub(head)? / SIZE as u64;
        Some(Self {
            header,
            file,
            head,
            count,
        })
    }

    /// Begins one, in place of whatever has its name.
    pub(super) fn create(folder: &Path, header: Header) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).mode(0o600);
        let file = options.open(name(folder, header.id))?;
        let bytes = header.encode();
        moment::pass();
        moment::write(&file, &bytes, 0);
        file.write_all_at(&bytes, 0)?;
        Ok(Self {
            header,
            file,
            head: bytes.len() as u64,
            count: 0,
        })
    }

    /// Entries from `first` on, at most so many; fewer at the end.
    pub(super) fn read(&self, first: u64, most: usize) -> io::Result<Vec<Entry>> {
        let most = usize::try_from(self.count.saturating_sub(first))
            .unwrap_or(most)
            .min(most);
        let mut bytes = vec![0; most * SIZE];
        let at = self.head + first * SIZE as u64;
        let mut done = 0;
        while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, at + done as u64)? {
                0 => break,
                count => done += count,
            }
        }
        Ok(Entry::all(bytes.get(..done).unwrap_or_default()).collect())
    }

    /// The last entry.
    pub(super) fn last(&self) -> Option<Entry> {
        let last = self.count.checked_sub(1)?;
        self.read(last, 1).ok()?.pop()
    }

    /// Keeps the first `count` entries, and adds these.
    pub(super) fn put(&mut self, count: u64, entries: &[Entry]) -> io::Result<()> {
        let at = self.head + count.min(self.count) * SIZE as u64;
        if self.file.metadata()?.len() > at {
            self.file.set_len(at)?;
        }
        let bytes: Vec<u8> = entries.iter().flat_map(|entry| entry.encode()).collect();
        moment::write(&self.file, &bytes, at);
        if let Err(error) = self.file.write_all_at(&bytes, at) {
            // A reader takes whole entries only; fewer of them are as good as none.
            let _cut = self.file.set_len(at);
            return Err(error);
        }
        self.count = count + entries.len() as u64;
        Ok(())
    }
}
