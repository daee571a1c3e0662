//! Being started by the machine: units of a service manager, written, verified, found and removed.
//!
//! ```text
//!  root            /etc/systemd/system/clmgr.service            or /etc/init.d/clmgr (OpenRC)
//!  anybody else    ~/.config/systemd/user/clmgr.service, with linger
//!  root for NAME   the same as NAME would get: root lets NAME linger, then becomes NAME
//! ```
//!
//! A user gets a unit of their own manager, not a system unit with `User=`: it sees the same `XDG_RUNTIME_DIR` as
//! the user's shells, so both find the same socket; its owner can restart it and read its journal without root;
//! and it gets a part of the cgroup tree that its owner may divide.
//!
//! `place` says where, `unit` and `openrc` what, `tools` runs the service manager's commands, `install` and
//! `remove` change things, `handover` moves running apps into and out of a unit, `leave` is what the unit runs to
//! stop, and `installation` tells what there is.

mod handover;
mod install;
mod installation;
mod leave;
mod openrc;
mod place;
mod remove;
mod tools;
mod unit;

pub(crate) use handover::start_enabled;
pub(crate) use install::{disable_linger, enable_linger, install, start_manager};
pub use installation::{Installation, UnitState, installation};
pub use leave::leave;
pub use place::Kind;
pub(crate) use place::{Place, detect};
pub(crate) use remove::remove;

/// What every file begins with that is ours to change and to remove.
const MARK: &str = "# Written by `clmgr startup`; `clmgr unstartup` removes it.";

/// The text of a unit or an init script for a place.
pub(crate) fn render(place: &Place, stop_timeout: crate::model::duration::Millis) -> String {
    match place.kind {
        Kind::Systemd | Kind::SystemdUser => unit::render(place, stop_timeout),
        Kind::Openrc => openrc::render(place),
    }
}
