//! What the id of an event says: how far the client has got with each log.
//!
//! `<floor>[;<log>.<file>.<offset>]…`, all hexadecimal: of the logs that are named, the client has everything before
//! this byte of this file; of the others it has what was written before the time `floor`.

use std::fmt::Write;
use std::path::Path;

use crate::logs::chain::Mark;
use crate::model::outcome::{ErrorBody, ErrorKind};
use crate::model::time::WallTime;

/// Longer ones would not come back: a request's head has at most 64 KiB.
const LONGEST: usize = 40 << 10;

/// What a client has sent back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Had {
    pub(super) floor: Option<WallTime>,
    marks: Vec<(u32, Mark)>,
}

impl Had {
    pub(super) fn read(text: &str) -> Result<Self, Box<ErrorBody>> {
        parse(text).ok_or_else(|| {
            let message = format!("Last-Event-ID: {text:?} was never the id of an event here");
            Box::new(ErrorBody::new(ErrorKind::BadRequest, message))
        })
    }

    /// Of this log.
    pub(super) fn mark(&self, path: &Path) -> Option<Mark> {
        let key = key(path);
        self.marks
            .iter()
            .find(|(known, _)| *known == key)
            .map(|(_, mark)| *mark)
    }
}

fn parse(text: &str) -> Option<Had> {
    let mut parts = text.trim().split(';');
    let floor = u64::from_str_radix(parts.next()?, 16).ok()?;
    let mark = |part: &str| {
        let mut numbers = part.split('.');
        let mut short = || u32::from_str_radix(numbers.next()?, 16).ok();
        let (key, file) = (short()?, short()?);
        let offset = u64::from_str_radix(numbers.next()?, 16).ok()?;
        Some((key, Mark { file, offset }))
    };
    Some(Had {
        floor: i64::try_from(floor).ok().filter(|floor| *floor > 0).map(WallTime),
        marks: parts.map(mark).collect::<Option<_>>()?,
    })
}

fn key(path: &Path) -> u32 {
    use std::os::unix::ffi::OsStrExt;
    let mut crc = flate2::Crc::new();
    crc.update(path.as_os_str().as_bytes());
    crc.sum()
}

/// The part of an id that is one log's.
pub(super) fn part(path: &Path, mark: Mark) -> String {
    format!(";{:x}.{:x}.{:x}", key(path), mark.file, mark.offset)
}

/// An id; none if it would be too long to come back.
pub(super) fn id<'a>(floor: Option<WallTime>, parts: impl Iterator<Item = &'a str>) -> Option<String> {
    let mut id = String::new();
    let floor = floor.and_then(|floor| u64::try_from(floor.0).ok()).unwrap_or(0);
    write!(id, "{floor:x}").ok()?;
    parts.for_each(|part| id.push_str(part));
    (id.len() <= LONGEST).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::{Had, id, part};
    use crate::logs::chain::Mark;
    use crate::model::time::WallTime;
    use std::path::Path;

    #[test]
    fn what_was_sent_is_understood_when_it_comes_back() {
        let marks = [
            (
                Path::new("/a.log"),
                Mark {
                    file: 7,
                    offset: 1 << 40,
                },
            ),
            (
                Path::new("/b.log"),
                Mark {
                    file: u32::MAX,
                    offset: 0,
                },
            ),
        ];
        let parts = marks.map(|(path, mark)| part(path, mark));
        let text = id(Some(WallTime(1_795_000_000_000)), parts.iter().map(String::as_str)).unwrap();
        let had = Had::read(&text).unwrap();
        assert_eq!(had.floor, Some(WallTime(1_795_000_000_000)));
        for (path, mark) in marks {
            assert_eq!(had.mark(path), Some(mark));
        }
        assert_eq!(had.mark(Path::new("/c.log")), None);
        assert_eq!(
            Had::read(&id(None, std::iter::empty()).unwrap()).unwrap(),
            Had::default()
        );
        let long = parts[0].repeat(5000);
        assert_eq!(id(None, std::iter::once(&long[..])), None);
        for wrong in ["", "x", "1;", "1;2", "1;2.3", "1;2.3.z", "1;fffffffff.1.1", "1;-1.1.1"] {
            assert!(Had::read(wrong).is_err(), "{wrong}");
        }
    }
}
