//! The servers under load. All answer `GET /DELAY/ID` with `ID PID` after so many milliseconds, and note the
//! connections they hold (see [`crate::held`]).
//!
//! | server | takes its socket | ends on SIGTERM |
//! |---|---|---|
//! | [`http`]: this binary | `LISTEN_FDS` | stops accepting, answers with `Connection: close`, waits for connections |
//! | [`PYTHON`] | `LISTEN_FDS` | the same |
//! | [`NODE`] | `listen({ fd: 3 })` | as most Node programs do: `server.close()` and nothing else |

mod broken;
mod http;

use std::fs::File;
use std::path::Path;

use anyhow::Context as _;
use clmgr::os::fds;

/// Python, standard library only.
pub(crate) const PYTHON: &str = include_str!("server.py");

/// Node.
pub(crate) const NODE: &str = include_str!("server.js");

/// Plays the server written in Rust, or what became of it. Returns its exit code.
pub(crate) fn play(args: &[String]) -> anyhow::Result<u8> {
    let folder = Path::new(args.first().context("load app FOLDER")?);
    // Before anything else can have its number: where readiness is said, unless it is asked for. Closing says it, too.
    let ready = fds::inherited(4).ok().map(File::from);
    match std::env::var("BREAK") {
        Ok(kind) => broken::play(&kind, folder, args.get(1).map(String::as_str), ready.as_ref()),
        Err(_) => {
            let server = http::Server::new(folder)?;
            http::say_ready(ready.as_ref())?;
            server.serve(None)
        }
    }
}
