//! What the journal says about the work in hand: one record, at the beginning of its file, always replaced by one
//! write within one page, which a kill does not tear.

use std::path::{Path, PathBuf};

use crate::logs::sink::StreamKey;
use crate::model::logspec::Stream;
use crate::model::names::RunId;

/// Names the file and the version of what follows.
const MAGIC: &[u8; 8] = b"clmgrlj1";
/// A record is never longer: one page of the smallest size there is.
pub(super) const MAX: usize = 4096;
/// Bytes of a boot id as text.
const BOOT: usize = 36;

/// A write that is about to be made at the end of a regular file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// The file's name now.
    pub path: PathBuf,
    /// Its device and inode.
    pub id: (u64, u64),
    /// Its length before.
    pub from: u64,
    /// Bytes to be added.
    pub len: u64,
}

/// One stream's turn.
///
/// Its *input* is the first `held` bytes of its held file, then the spool from `start` to its end. Once all
/// `intents` are done, the first `covered` bytes of the input are in the logs; before that, none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) key: StreamKey,
    pub(super) held: u64,
    pub(super) start: u64,
    pub(super) covered: u64,
    pub(super) intents: Vec<Intent>,
}

/// Appends the record as it stands in the file; nothing at all when there is no record.
pub(super) fn encode(record: Option<&Record>, boot: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(MAGIC);
    let mut id = [0; BOOT];
    id.iter_mut().zip(boot.bytes()).for_each(|(to, from)| *to = from);
    out.extend_from_slice(&id);
    out.push(u8::from(record.is_some()));
    let Some(record) = record else { return };
    let mut number = |n: u64| out.extend_from_slice(&n.to_le_bytes());
    number(record.key.run.0);
    number(u64::from(record.key.stream == Stream::Err));
    number(record.held);
    number(record.start);
    number(record.covered);
    number(record.intents.len() as u64);
    for intent in &record.intents {
        intent_into(out, intent);
    }
}

fn intent_into(out: &mut Vec<u8>, intent: &Intent) {
    use std::os::unix::ffi::OsStrExt;
    let path = intent.path.as_os_str().as_bytes();
    for n in [intent.id.0, intent.id.1, intent.from, intent.len, path.len() as u64] {
        out.extend_from_slice(&n.to_le_bytes());
    }
    out.extend_from_slice(path);
}

/// What a file says; an empty one says that there is no record. `None`: it is of another version or boot.
pub(super) fn decode(bytes: &[u8], boot: &str) -> Option<Option<Record>> {
    if bytes.is_empty() {
        return Some(None);
    }
    let rest = bytes.strip_prefix(MAGIC)?;
    let (id, rest) = rest.split_at_checked(BOOT)?;
    let known = boot.bytes().chain(std::iter::repeat(0)).take(BOOT);
    if !known.eq(id.iter().copied()) {
        return None;
    }
    let (busy, mut rest) = rest.split_first()?;
    if *busy == 0 {
        return Some(None);
    }
    let mut number = || {
        let (head, tail) = rest.split_first_chunk::<8>()?;
        rest = tail;
        Some(u64::from_le_bytes(*head))
    };
    let key = StreamKey {
        run: RunId(number()?),
        stream: if number()? == 0 { Stream::Out } else { Stream::Err },
    };
    let (held, start, covered, count) = (number()?, number()?, number()?, number()?);
    let mut intents = Vec::new();
    for _ in 0..count.min(8) {
        intents.push(intent_from(&mut rest)?);
    }
    Some(Some(Record {
        key,
        held,
        start,
        covered,
        intents,
    }))
}

fn intent_from(rest: &mut &[u8]) -> Option<Intent> {
    use std::os::unix::ffi::OsStrExt;
    let mut numbers = [0; 5];
    for n in &mut numbers {
        let (head, tail) = rest.split_first_chunk::<8>()?;
        *rest = tail;
        *n = u64::from_le_bytes(*head);
    }
    let [dev, ino, from, len, size] = numbers;
    let (path, tail) = rest.split_at_checked(usize::try_from(size).ok()?)?;
    *rest = tail;
    Some(Intent {
        path: Path::new(std::ffi::OsStr::from_bytes(path)).to_owned(),
        id: (dev, ino),
        from,
        len,
    })
}

#[cfg(test)]
mod tests {
    use super::{Intent, Record, decode, encode};
    use crate::logs::sink::StreamKey;
    use crate::model::logspec::Stream;
    use crate::model::names::RunId;

    #[test]
    fn reads_what_it_wrote_and_nothing_of_another_boot() {
        let intent = |name: &str| Intent {
            path: name.into(),
            id: (7, 8),
            from: 9,
            len: 10,
        };
        let record = Record {
            key: StreamKey {
                run: RunId(5),
                stream: Stream::Err,
            },
            held: 1,
            start: 2,
            covered: 3,
            intents: vec![intent("/a"), intent("/b/c")],
        };
        let mut bytes = Vec::new();
        encode(Some(&record), "boot", &mut bytes);
        assert_eq!(decode(&bytes, "boot"), Some(Some(record.clone())));
        assert_eq!(decode(&bytes, "other"), None);
        for cut in 1..bytes.len() {
            assert_eq!(decode(&bytes[..cut], "boot"), None, "{cut}");
        }
        let long = bytes.clone();
        bytes.clear();
        encode(None, "boot", &mut bytes);
        // A short record lies over a long one.
        bytes.extend_from_slice(&long[bytes.len()..]);
        assert_eq!(decode(&bytes, "boot"), Some(None));
    }
}
