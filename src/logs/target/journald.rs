//! journald's native protocol: one datagram an entry, a field a line; a text that may have any bytes after its length.
//!
//! See <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>.

use crate::logs::sink::Origin;
use crate::model::logspec::Stream;

/// The fields that are the same in all entries of a stream.
#[derive(Debug)]
pub(super) struct Head(Box<[u8]>);

impl Head {
    pub(super) fn new(origin: &Origin, stream: Stream) -> Self {
        // The process that sends is this one; who has written stands in `SYSLOG_PID`. Names have no newlines.
        let fields = format!(
            "SYSLOG_IDENTIFIER={app}\nSYSLOG_PID={pid}\nCLMGR_APP={app}\nCLMGR_NAMESPACE={}\nCLMGR_INSTANCE={}\nCLMGR_STREAM={}\n",
            origin.namespace,
            origin.slot,
            stream.as_str(),
            app = origin.app,
            pid = origin.pid,
        );
        Self(fields.into_bytes().into_boxed_slice())
    }

    pub(super) fn frame(&self, severity: u8, text: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(b"PRIORITY=");
        out.push(b'0' + severity.min(7));
        out.push(b'\n');
        out.extend_from_slice(&self.0);
        out.extend_from_slice(b"MESSAGE\n");
        out.extend_from_slice(&(text.len() as u64).to_le_bytes());
        out.extend_from_slice(text);
        out.push(b'\n');
    }
}
