//! A CLI and a daemon of different versions.

use crate::api::status::Ping;

/// What to tell a user whose daemon is of another version than this program; nothing if it is not.
#[must_use]
pub fn version_note(ping: &Ping) -> Option<String> {
    let ours = env!("CARGO_PKG_VERSION");
    (ping.version != ours).then(|| {
        format!(
            "the running daemon is clmgr {}, this command is clmgr {ours}; what only one of them knows will not work until both are the same",
            ping.version
        )
    })
}
