//! Looks at everything clmgr needs and says what is in order and what is not, each with the next step. Changes
//! nothing, signals nobody, and starts nothing: it also works when no manager runs.
//!
//! | part | what is looked at |
//! |---|---|
//! | `manager` | does it answer; which binaries do keeper and daemon execute |
//! | `boot` | is it started at boot |
//! | `cgroup` | cgroup v2, and whether it is the manager's to use |
//! | `limits` | files, processes, connections that wait |
//! | `folders` | state, sockets, logs: owner, mode, room |
//! | `state` | the database, what was put aside, whether it can be written; the clock |
//! | `orphans` | processes of runs that no manager knows |

mod boot;
mod cgroup;
mod check;
mod folders;
mod limits;
mod manager;
mod orphans;
mod state;

use crate::api::status::{Ping, StatusReply};
use crate::cli::connect;
use crate::cli::context::Context;
use crate::cli::exit;
use crate::cli::failure::Failure;
use crate::os::home::Home;

use check::{Check, Report};

/// For the help text.
pub const EXAMPLES: &str = "Examples:
  clmgr doctor
  clmgr doctor --json

Exit codes: 0 everything is in order, 1 something needs attention.";

/// What is known when the parts look.
struct Scene {
    home: Home,
    /// The daemon's own words, if one answers.
    ping: Option<Ping>,
    /// Its apps.
    status: Option<StatusReply>,
    /// Somebody holds the keeper's lock.
    keeper_lives: bool,
}

pub(crate) fn run(context: &mut Context) -> Result<(), Failure> {
    let report = Report::of(look());
    if context.json {
        context.ui.json(&report)?;
    } else {
        for line in report.lines() {
            context.ui.line(line)?;
        }
    }
    if report.ok {
        Ok(())
    } else {
        context.ui.flush()?;
        Err(Failure::said(exit::FAILED))
    }
}

fn look() -> Vec<Check> {
    let home = match connect::home() {
        Ok(home) => home,
        Err(failure) => {
            return vec![Check::attention(
                "home",
                failure.message,
                "set CLMGR_HOME to a short absolute folder",
            )];
        }
    };
    let (scene, mut checks) = manager::reach(home);
    checks.extend(manager::binaries(&scene));
    checks.extend(boot::check(&scene));
    checks.push(cgroup::check(&scene));
    checks.extend(limits::check(&scene));
    checks.extend(folders::check(&scene));
    checks.extend(state::check(&scene));
    checks.push(state::clock(&scene));
    checks.extend(orphans::check(&scene));
    checks
}
