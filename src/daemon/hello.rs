//! The first words with the keeper.

use std::os::fd::AsFd;
use std::path::Path;

use crate::daemon::doors::Found;
use crate::daemon::handshake::Range;
use crate::daemon::recover::Table;
use crate::daemon::start::DaemonError;
use crate::keeper::link::{Link, LinkError};
use crate::keeper::protocol::ToKeeper;
use crate::model::duration::Millis;
use crate::model::version::version;
use crate::os::poll;

/// What begins the names of readiness pipes, which are fetched with their runs.
const READINESS: &str = "ready/";

/// Introduces us and asks for everything the keeper has.
pub(crate) fn hello(link: &mut Link, control: &Path) -> Result<Table, DaemonError> {
    use crate::keeper::protocol::{FromKeeper, MIN_VERSION, VERSION};
    let queue = |link: &mut Link, message: &ToKeeper| link.queue(message, Vec::new()).map_err(DaemonError::Keeper);
    queue(
        link,
        &ToKeeper::Hello {
            min: MIN_VERSION,
            current: VERSION,
            daemon_version: version().to_owned(),
        },
    )?;
    let mut table = Table::default();
    table.doors = Found::look(control);
    // Before the table: when that is complete, so are the descriptors.
    queue(link, &ToKeeper::Names)?;
    let mut complete = false;
    link.flush()
        .map_err(|error| DaemonError::Keeper(LinkError::Io(error)))?;
    loop {
        while let Some((message, fds)) = link.receive::<FromKeeper>().map_err(DaemonError::Keeper)? {
            match message {
                FromKeeper::Welcome {
                    keeper_pid,
                    min,
                    current,
                    version,
                    ..
                } => {
                    table.keeper_pid = keeper_pid;
                    let range = Range {
                        min: i64::from(min),
                        current: i64::from(current),
                    };
                    table.keeper = Some((range, version));
                }
                FromKeeper::Trial(order) => table.trial = Some(order),
                FromKeeper::Upgraded(outcome) => table.upgraded = Some(outcome),
                FromKeeper::Refused { why } => return Err(DaemonError::Refused(why)),
                FromKeeper::StoredNames { names } => {
                    table.doors.names(&names);
                    for name in names.into_iter().filter(|name| !name.starts_with(READINESS)) {
                        queue(link, &ToKeeper::Fetch { name })?;
                    }
                    queue(link, &ToKeeper::Table)?;
                }
                FromKeeper::Stored { name, .. } => {
                    if let Some(fd) = fds.into_iter().next() {
                        table.keep(name, fd);
                    }
                }
                FromKeeper::Children { last, children } => {
                    table.add(children, fds);
                    complete = last;
                }
                // Exits are in the table, too; the rest answers questions nobody has asked yet.
                FromKeeper::Exited { seq, .. } => table.last_exit = Some(seq),
                FromKeeper::Terminate => table.terminate = true,
                FromKeeper::Applied => table.applied = true,
                FromKeeper::Spawned { .. }
                | FromKeeper::SpawnFailed { .. }
                | FromKeeper::Pong
                | FromKeeper::Leave { .. }
                | FromKeeper::Reopen
                | FromKeeper::Detach => {}
            }
        }
        if complete {
            return Ok(table);
        }
        // After what came, which may have led to new questions.
        link.flush()
            .map_err(|error| DaemonError::Keeper(LinkError::Io(error)))?;
        poll::readable(link.as_fd(), Millis(10_000)).map_err(DaemonError::system("wait for the keeper"))?;
    }
}
