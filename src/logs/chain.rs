//! The files of one log, newest first, and who they are whatever they are called by now.
//!
//! Rotation renames a file and gzip makes another one of it, so a name says nothing and an inode not
//! enough: the number of a file that is gone is given to a new one soon. A compressed file therefore
//! carries in its gzip header who its original was, and a file is known by device, inode and birth.

use std::fs::{File, Metadata};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use flate2::{Compression, GzBuilder};

use crate::logs::moment;
use crate::logs::rotate::all_rotated;

/// Who a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Device number.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// When it was made, in nanoseconds since 1970; 0 where the file system does not know.
    pub born: i64,
}

impl Identity {
    /// Of a file.
    #[must_use]
    pub fn of(meta: &Metadata) -> Self {
        let born = meta.created().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        Self {
            dev: meta.dev(),
            ino: meta.ino(),
            born: born.and_then(|born| i64::try_from(born.as_nanos()).ok()).unwrap_or(0),
        }
    }

    /// A short word for it: enough to find it among the files of one log.
    #[must_use]
    pub fn mark(self) -> u32 {
        let mut crc = flate2::Crc::new();
        for number in [self.dev, self.ino, self.born.cast_unsigned()] {
            crc.update(&number.to_le_bytes());
        }
        crc.sum()
    }
}

/// A place in a file, whatever the file is called by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The file.
    pub identity: Identity,
    /// Bytes of its text before this place.
    pub offset: u64,
}

impl Position {
    /// The same in a few bytes.
    #[must_use]
    pub fn mark(self) -> Mark {
        Mark {
            file: self.identity.mark(),
            offset: self.offset,
        }
    }
}

/// A [`Position`], short enough to be given to a client and back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// See [`Identity::mark`].
    pub file: u32,
    /// Bytes of the text before this place.
    pub offset: u64,
}

/// Before our field in a gzip header: the magic number, deflate, an extra field and nothing else.
const FIXED: usize = 12;
/// Our subfield: `CM`, its length, and three numbers, little endian.
const MARK: [u8; 4] = [b'C', b'M', 24, 0];
/// Bytes of it.
const FIELD: usize = MARK.len() + 24;

/// Compresses into `to`, and says there who the original is.
#[must_use]
pub fn encoder(to: File, original: &Metadata) -> GzEncoder<File> {
    let who = Identity::of(original);
    let mut field = MARK.to_vec();
    field.extend_from_slice(&who.dev.to_le_bytes());
    field.extend_from_slice(&who.ino.to_le_bytes());
    field.extend_from_slice(&who.born.to_le_bytes());
    GzBuilder::new().extra(field).write(to, Compression::fast())
}

/// Who was compressed into this file, if it says so.
fn original(file: &File) -> Option<Identity> {
    let mut head = [0; FIXED + FIELD];
    file.read_exact_at(&mut head, 0).ok()?;
    let (fixed, field) = head.split_at(FIXED);
    let values = field.strip_prefix(&MARK)?;
    if fixed.get(..2) != Some(&[0x1f, 0x8b]) || fixed.get(3)? & 4 == 0 {
        return None;
    }
    let value = |at: usize| Some(u64::from_le_bytes(values.get(at..at + 8)?.try_into().ok()?));
    Some(Identity {
        dev: value(0)?,
        ino: value(8)?,
        born: i64::from_le_bytes(values.get(16..24)?.try_into().ok()?),
    })
}

/// One file of a log, opened.
#[derive(Debug)]
pub struct Part {
    /// Open for reading.
    pub file: File,
    /// Its bytes are compressed.
    pub gzip: bool,
    /// Who wrote it: of a compressed file, its original.
    pub identity: Identity,
    /// The last write, which gzip keeps.
    pub modified: SystemTime,
}

impl Part {
    /// Of an open file.
    ///
    /// # Errors
    /// Its status cannot be read.
    pub fn new(file: File, gzip: bool) -> io::Result<Self> {
        let meta = file.metadata()?;
        let origin = if gzip { original(&file) } else { None };
        Ok(Self {
            file,
            gzip,
            identity: origin.unwrap_or_else(|| Identity::of(&meta)),
            modified: meta.modified().unwrap_or(UNIX_EPOCH),
        })
    }

    /// The file of this name; a rotated one also when it was compressed this very moment. None if there is none.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn open(name: &Path, gzip: bool) -> io::Result<Option<Self>> {
        let found = open(name)?;
        moment::look();
        match (found, gzip) {
            (Some(file), gzip) => Self::new(file, gzip).map(Some),
            (None, true) => Ok(None),
            (None, false) => match open(&zipped(name))? {
                Some(file) => Self::new(file, true).map(Some),
                None => Ok(None),
            },
        }
    }

    /// Its text from the beginning, whatever was read of it before.
    ///
    /// # Errors
    /// The file cannot be opened once more.
    pub fn text(&self) -> io::Result<Box<dyn Read + Send>> {
        let from = At {
            file: self.file.try_clone()?,
            offset: 0,
        };
        Ok(if self.gzip {
            Box::new(MultiGzDecoder::new(BufReader::with_capacity(32 << 10, from)))
        } else {
            Box::new(from)
        })
    }
}

/// Reads on from a place in a file, whoever else reads that file.
#[derive(Debug)]
pub struct At {
    /// The file.
    pub file: File,
    /// Bytes before the next one.
    pub offset: u64,
}

impl Read for At {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}

fn zipped(name: &Path) -> PathBuf {
    let mut name = name.as_os_str().to_owned();
    name.push(".gz");
    PathBuf::from(name)
}

/// The file of this name, if there is one.
///
/// # Errors
/// It is there and cannot be read.
pub fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The rotated files of a log, newest first. Safe against rotation and gzip meanwhile: files only move
/// up, so none is left out, but one may come twice.
pub fn rotated_parts(path: &Path) -> impl Iterator<Item = io::Result<Part>> {
    all_rotated(path).filter_map(|(name, gzip, _)| {
        moment::look();
        Part::open(&name, gzip).transpose()
    })
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests make files")]
mod tests {
    use super::{Identity, Part, rotated_parts};
    use crate::logs::compress::compress_all;
    use crate::logs::rotate::{Shelf, rotated};
    use std::fs;
    use std::io::Read;

    #[test]
    fn a_compressed_file_is_who_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        let one = rotated(&path, 1, false);
        fs::write(&one, "text\n".repeat(1000)).unwrap();
        let before = Identity::of(&one.metadata().unwrap());
        let name = Part::open(&one, false).unwrap().unwrap();
        assert_eq!((name.identity, name.gzip), (before, false));
        compress_all(&path, &Shelf::default()).unwrap();
        // The plain name was seen, and then it was gone.
        let after = Part::open(&one, false).unwrap().unwrap();
        assert_eq!((after.identity, after.gzip), (before, true));
        assert_eq!(after.modified, name.modified);
        let mut text = String::new();
        after.text().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "text\n".repeat(1000));
    }

    #[test]
    fn a_file_that_somebody_else_compressed_is_itself() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        for (number, bytes) in [(1, &b""[..]), (2, b"\x1f\x8b"), (3, &[0x1f; 90])] {
            fs::write(rotated(&path, number, true), bytes).unwrap();
        }
        for (part, number) in rotated_parts(&path).zip(1..) {
            let meta = rotated(&path, number, true).metadata().unwrap();
            assert_eq!(part.unwrap().identity, Identity::of(&meta));
        }
    }
}
