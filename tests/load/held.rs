//! What each server says about its connections, in a file of its own: `+PORT` as soon as it has accepted one, `-PORT`
//! when it has closed it. What stands open at its end was lost with it, and nothing else may be.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;

/// The folder, beside the home.
pub(crate) const FOLDER: &str = "held";

/// This process's file: `APP.PID`.
pub(crate) fn begin(folder: &Path) -> anyhow::Result<File> {
    let app = std::env::var("CLMGR_APP")?;
    let path = folder.join(FOLDER).join(format!("{app}.{}", std::process::id()));
    Ok(OpenOptions::new().create(true).append(true).open(path)?)
}

/// It has accepted a connection from this port.
pub(crate) fn opened(mut file: &File, port: u16) {
    let _full = file.write_all(format!("+{port}\n").as_bytes());
}

/// It has closed it.
pub(crate) fn closed(mut file: &File, port: u16) {
    let _full = file.write_all(format!("-{port}\n").as_bytes());
}

/// Client ports of the connections that a process held at its end.
pub(crate) fn at_the_end(folder: &Path, app: &str, pid: i32) -> BTreeSet<u16> {
    let text = std::fs::read_to_string(folder.join(FOLDER).join(format!("{app}.{pid}"))).unwrap_or_default();
    // A port may come again before the end of the connection that had it before is noted.
    let mut counts = BTreeMap::<u16, i32>::new();
    for line in text.lines() {
        let more = if line.starts_with('+') { 1 } else { -1 };
        if let Some(port) = line.get(1..).and_then(|port| port.parse().ok()) {
            *counts.entry(port).or_default() += more;
        }
    }
    counts.retain(|_, count| *count > 0);
    counts.into_keys().collect()
}
