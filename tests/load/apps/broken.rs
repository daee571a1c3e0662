//! What can be wrong with a new generation, as far as the program itself is wrong.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

use clmgr::model::duration::Millis;
use clmgr::os::{poll, signals};
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::apps::http::{Server, say_ready};

/// As good as for ever.
const EVER: Millis = Millis(3_600_000);

/// Plays it. `role` is for its children.
pub(super) fn play(kind: &str, folder: &Path, role: Option<&str>, ready: Option<&File>) -> anyhow::Result<u8> {
    match kind {
        "exits" => {
            eprintln!("cannot parse the configuration");
            Ok(3)
        }
        "exits-late" => {
            poll::pause(Millis(1000));
            eprintln!("the migration has failed");
            Ok(4)
        }
        "hangs" => {
            eprintln!("waiting for the database");
            poll::pause(EVER);
            Ok(0)
        }
        "answers-500" => {
            eprintln!("no such table: users");
            Server::new(folder)?.failing().serve(None)
        }
        "dies" => {
            let server = Server::new(folder)?;
            say_ready(ready)?;
            let code = server.serve(Some(Millis(200)));
            eprintln!("the license has expired");
            code
        }
        "out-of-memory" => {
            let limit = |bytes| Rlimit {
                current: Some(bytes),
                maximum: Some(bytes),
            };
            setrlimit(Resource::Core, limit(0))?;
            setrlimit(Resource::As, limit(1 << 30))?;
            // Aborts, as the allocator of any program does.
            let much = vec![1_u8; 2 << 30];
            Ok(u8::from(much.len() > 1))
        }
        "forks" if role.is_none() => {
            let exe = std::env::current_exe()?;
            Command::new("setsid")
                .arg("--fork")
                .arg(exe)
                .arg("app")
                .arg(folder)
                .arg("child")
                .stdin(Stdio::null())
                .spawn()?
                .wait()?;
            eprintln!("running in the background");
            Ok(0)
        }
        "forks" => {
            poll::pause(EVER);
            Ok(0)
        }
        "deaf" => {
            signals::ignore(&[15])?;
            eprintln!("still starting");
            poll::pause(EVER);
            Ok(0)
        }
        other => anyhow::bail!("no such way to be broken: {other}"),
    }
}
