//! Time zones by name, from the machine's files. An open zone knows its daylight-saving changes for all times.

use std::io;
use std::path::Path;

use jiff::tz::TimeZone;

use crate::model::zone::{FOLDERS, is_name, is_utc};

/// More than any zone needs, in bytes.
const MOST: u64 = 1 << 20;

/// Why a zone cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ZoneError {
    /// No such name.
    #[error("there is no time zone `{0}`: use a name like Europe/Berlin, or UTC")]
    Unknown(String),
    /// This machine has none but UTC.
    #[error("this machine has no time zones, `{0}` among them: install the package tzdata, or use UTC")]
    NoData(String),
    /// Its file is none.
    #[error("the file of the time zone `{0}` is damaged: install the package tzdata again, or use UTC")]
    Damaged(String),
}

/// The zone of this name.
///
/// # Errors
/// It is unknown, its file is damaged, or the machine has no zones.
pub fn named(name: &str) -> Result<TimeZone, ZoneError> {
    named_in(&FOLDERS, name)
}

fn named_in(folders: &[&str], name: &str) -> Result<TimeZone, ZoneError> {
    if is_utc(name) {
        return Ok(TimeZone::UTC);
    }
    if !is_name(name) {
        return Err(ZoneError::Unknown(name.to_owned()));
    }
    let found = folders
        .iter()
        .find_map(|folder| read(&Path::new(folder).join(name)).ok());
    match found {
        Some(bytes) => TimeZone::tzif(name, &bytes).map_err(|_| ZoneError::Damaged(name.to_owned())),
        None if folders.iter().any(|folder| Path::new(folder).is_dir()) => Err(ZoneError::Unknown(name.to_owned())),
        None => Err(ZoneError::NoData(name.to_owned())),
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let meta = path.metadata()?;
    if !meta.is_file() || meta.len() > MOST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    std::fs::read(path)
}

/// The zone of this machine: what `TZ` says, else `/etc/localtime`, else UTC.
#[must_use]
pub fn local() -> TimeZone {
    let wanted = std::env::var("TZ").unwrap_or_default();
    let name = wanted.strip_prefix(':').unwrap_or(&wanted);
    let name = name.rsplit_once("zoneinfo/").map_or(name, |(_, name)| name);
    if name.is_empty() {
        return TimeZone::system();
    }
    // POSIX rules and files are understood by the library; names need the files of the machine.
    named(name).unwrap_or_else(|_| TimeZone::system())
}

/// The zone of a setting: none is the machine's own. One that has become unknown since it was set is UTC, whose stamps
/// say so.
#[must_use]
pub fn of(setting: Option<&str>) -> TimeZone {
    setting.map_or_else(local, |name| named(name).unwrap_or(TimeZone::UTC))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the test makes files")]
mod tests {
    use super::{ZoneError, named_in};
    use jiff::Timestamp;

    /// A zone of one offset, two hours east, as version 1 of the format.
    fn file() -> Vec<u8> {
        let mut bytes = b"TZif".to_vec();
        bytes.resize(20, 0);
        for count in [0u32, 0, 0, 0, 1, 4] {
            bytes.extend(count.to_be_bytes());
        }
        bytes.extend(7200i32.to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend(b"TST\0");
        bytes
    }

    #[test]
    fn zones_are_found_refused_and_missed() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().to_str().unwrap();
        std::fs::create_dir(dir.path().join("Test")).unwrap();
        std::fs::write(dir.path().join("Test/Two"), file()).unwrap();
        std::fs::write(dir.path().join("Test/Bad"), b"no zone").unwrap();
        let zone = named_in(&["/nonexistent", folder], "Test/Two").unwrap();
        assert_eq!(zone.to_offset(Timestamp::UNIX_EPOCH).seconds(), 7200);
        assert!(matches!(named_in(&[folder], "Test/Bad"), Err(ZoneError::Damaged(_))));
        assert!(matches!(named_in(&[folder], "Test"), Err(ZoneError::Unknown(_))));
        assert!(matches!(named_in(&[folder], "../x"), Err(ZoneError::Unknown(_))));
        assert!(matches!(
            named_in(&["/nonexistent"], "Test/Two"),
            Err(ZoneError::NoData(_))
        ));
        assert_eq!(named_in(&["/nonexistent"], "UTC").unwrap(), jiff::tz::TimeZone::UTC);
    }
}
