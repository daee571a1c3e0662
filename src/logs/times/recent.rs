//! What is not in the indexes yet, of all logs together: one write a second instead of one for each log.
//!
//! Two files are written in turn, so that one of them is always whole: `recent.0` and `recent.1`.
//!
//! ```text
//! magic 8 │ turn 8 │ size of the rest 4 │ its CRC 4 │ for each log:
//!   tag 8 │ device 8 │ inode 8 │ entries in its index 8 │ end 8 │ latest 8 │ flags 4 │ count 4 │ entries of 12 bytes …
//! ```

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::logs::moment;
use crate::logs::times::entry::{Entry, SIZE};
use crate::logs::times::index::{Id, crc, long, short};
use crate::model::time::WallTime;

const MAGIC: &[u8; 8] = b"clmgrTR1";
const HEAD: usize = 24;
/// Nothing of ours is larger.
const MOST: u64 = 64 << 20;

/// What is known of a log beyond its index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Recent {
    /// The tag in the index's header.
    pub(super) tag: u64,
    pub(super) id: Id,
    /// So many entries are in the index.
    pub(super) count: u64,
    /// These follow.
    pub(super) pending: Vec<Entry>,
    /// All before this byte is accounted for.
    pub(super) end: u64,
    /// When the byte before it was written.
    pub(super) latest: WallTime,
    /// What was written since the last entry may be later than it by more than [`SPAN`](super::SPAN).
    pub(super) loose: bool,
}

impl Recent {
    /// An entry that says what is known of the end.
    pub(super) fn closing(&self, back: bool) -> Entry {
        Entry {
            time: self.latest,
            offset: self.end,
            loose: self.loose,
            back,
        }
    }
}

fn path(folder: &Path, turn: u64) -> PathBuf {
    folder.join(format!("recent.{}", turn % 2))
}

/// Writes all; `turn` is one more than that of the last time.
pub(super) fn write<'a>(folder: &Path, turn: u64, logs: impl Iterator<Item = &'a Recent>) -> io::Result<()> {
    let mut bytes = vec![0; HEAD];
    for log in logs {
        let latest = u64::try_from(log.latest.0).unwrap_or_default();
        for number in [log.tag, log.id.0, log.id.1, log.count, log.end, latest] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(u32::from(log.loose).to_le_bytes());
        bytes.extend(u32::try_from(log.pending.len()).unwrap_or_default().to_le_bytes());
        log.pending.iter().for_each(|entry| bytes.extend(entry.encode()));
    }
    let mut head = MAGIC.to_vec();
    head.extend(turn.to_le_bytes());
    let body = bytes.get(HEAD..).unwrap_or_default();
    head.extend(u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes());
    head.extend(crc(body).to_le_bytes());
    if let Some(start) = bytes.get_mut(..HEAD) {
        start.copy_from_slice(&head);
    }
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(path(folder, turn))?;
    moment::write(&file, &bytes, 0);
    file.write_all_at(&bytes, 0)
}

/// The newer of the two files that are whole: its turn, and what it says.
fn newest(folder: &Path) -> Option<(u64, Vec<u8>)> {
    let read = |which| {
        let path = path(folder, which);
        let size = path.metadata().ok()?.len();
        let bytes = if size <= MOST {
            std::fs::read(path).ok()?
        } else {
            return None;
        };
        let mut rest = bytes.strip_prefix(MAGIC)?;
        let (turn, size, sum) = (long(&mut rest)?, short(&mut rest)?, short(&mut rest)?);
        let body = rest.get(..size as usize)?;
        (crc(body) == sum).then(|| (turn, body.to_vec()))
    };
    let (a, b) = (read(0), read(1));
    match (&a, &b) {
        (Some((first, _)), Some((second, _))) if second > first => b,
        (None, _) => b,
        (Some(_), _) => a,
    }
}

fn take(rest: &mut &[u8]) -> Option<Recent> {
    let mut numbers = [0; 6];
    for number in &mut numbers {
        *number = long(rest)?;
    }
    let [tag, dev, ino, count, end, latest] = numbers;
    let (flags, size) = (short(rest)?, short(rest)? as usize);
    let (entries, tail) = rest.split_at_checked(size.checked_mul(SIZE)?)?;
    *rest = tail;
    Some(Recent {
        tag,
        id: (dev, ino),
        count,
        pending: Entry::all(entries).collect(),
        end,
        latest: WallTime(i64::try_from(latest).unwrap_or_default()),
        loose: flags != 0,
    })
}

/// The last turn, and all that was written in it.
pub(super) fn read(folder: &Path) -> (u64, Vec<Recent>) {
    let Some((turn, body)) = newest(folder) else {
        return (0, Vec::new());
    };
    let mut rest = &body[..];
    let logs = std::iter::from_fn(|| take(&mut rest)).collect();
    (turn, logs)
}
