//! Messages of syslog, as RFC 5424 has them, without a byte order mark: receivers show it.

use std::fmt::Write;

use crate::logs::sink::Origin;
use crate::model::logspec::{Facility, Stream};
use crate::model::time::WallTime;

/// Most characters of the name of a program (RFC 5424, 6).
const NAME: usize = 48;

/// What is the same in all messages of a stream.
#[derive(Debug)]
pub(super) struct Head {
    facility: u8,
    /// From after the time to the text.
    middle: Box<[u8]>,
}

impl Head {
    pub(super) fn new(facility: Facility, origin: &Origin, stream: Stream) -> Self {
        let host = rustix::system::uname();
        let host = word(&host.nodename().to_string_lossy(), 255);
        let mut middle = format!(" {host} {} {} - ", word(origin.app.as_str(), NAME), origin.pid);
        // The number is the one that is kept for examples; we have none of our own.
        middle.push_str("[clmgr@32473");
        let instance = origin.slot.to_string();
        for (name, value) in [
            ("app", origin.app.as_str()),
            ("namespace", origin.namespace.as_str()),
            ("instance", &instance),
            ("stream", stream.as_str()),
        ] {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace(']', "\\]");
            // Writing to a string cannot fail.
            let _ = write!(middle, " {name}=\"{value}\"");
        }
        middle.push_str("] ");
        Self {
            facility: facility.0,
            middle: middle.into_bytes().into_boxed_slice(),
        }
    }

    pub(super) fn frame(&self, severity: u8, now: WallTime, text: &[u8], out: &mut Vec<u8>) {
        let priority = u16::from(self.facility) * 8 + u16::from(severity.min(7));
        out.extend_from_slice(format!("<{priority}>1 {now}").as_bytes());
        out.extend_from_slice(&self.middle);
        // Some receivers end a message at a NUL; this is how they write one.
        for (n, part) in text.split(|byte| *byte == 0).enumerate() {
            if n > 0 {
                out.extend_from_slice(b"#000");
            }
            out.extend_from_slice(part);
        }
    }
}

/// Half of a message that is too large, with a mark.
pub(super) fn cut(frame: &mut Vec<u8>, whole: usize) {
    let keep = frame.len() / 2;
    let keep = (keep.saturating_sub(3)..=keep)
        .rev()
        .find(|at| frame.get(*at).is_none_or(|byte| byte & 0xc0 != 0x80))
        .unwrap_or(keep);
    frame.truncate(keep);
    frame.extend_from_slice(format!(" [clmgr: {} bytes cut]", whole - keep).as_bytes());
}

/// Printable ASCII without spaces, at least one character.
fn word(text: &str, most: usize) -> String {
    let plain = |c: char| if c.is_ascii_graphic() { c } else { '_' };
    let word: String = text.chars().take(most).map(plain).collect();
    if word.is_empty() { "-".to_owned() } else { word }
}
