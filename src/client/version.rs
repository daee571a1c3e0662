//! A CLI and a daemon of different versions.

use crate::api::status::Ping;
use crate::model::version::version;

/// What to tell a user whose daemon or keeper is of another version than this program; nothing if none is.
#[must_use]
pub fn version_note(ping: &Ping) -> Option<String> {
    let ours = version();
    if ping.version != ours {
        return Some(format!(
            "the running daemon is clmgr {}, this command is clmgr {ours}; what only one of them knows will not work until both are the same",
            ping.version
        ));
    }
    (!ping.keeper_version.is_empty() && ping.keeper_version != ours).then(|| {
        format!(
            "the running keeper is clmgr {}, daemon and command are clmgr {ours}",
            ping.keeper_version
        )
    })
}
