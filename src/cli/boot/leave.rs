//! What a unit runs to stop: the keeper leaves without its apps if this is a restart. If it is a stop there is
//! nothing to do: the SIGTERM that follows stops the apps gracefully.

use crate::cli::boot::handover;
use crate::cli::boot::place::{Kind, UNIT};
use crate::cli::boot::tools;
use crate::cli::failure::Failure;

/// `clmgr service-stop [--user]`, run by the unit. Which of the two it is says the type of the unit's job.
///
/// # Errors
/// The keeper cannot be asked to leave; a stop follows.
pub fn leave(user: bool) -> Result<(), Failure> {
    let kind = if user { Kind::SystemdUser } else { Kind::Systemd };
    let keeper: Option<i32> = std::env::var("MAINPID").ok().and_then(|pid| pid.parse().ok());
    // Without a keeper it has died, and this is no order to stop.
    let Some(keeper) = keeper else { return Ok(()) };
    let listed = tools::ask_systemctl(
        kind,
        &["list-jobs", "--plain", "--no-legend", "--no-pager", "--full", UNIT],
    );
    if listed.is_some_and(|said| is_restart(&said.out)) {
        handover::detach(keeper)?;
    }
    Ok(())
}

/// Lines such as `4711 clmgr.service restart running`.
fn is_restart(jobs: &str) -> bool {
    jobs.lines().any(|line| {
        let mut words = line.split_whitespace().skip(1);
        words.next() == Some(UNIT) && words.next() == Some("restart")
    })
}

#[cfg(test)]
mod tests {
    use super::is_restart;

    #[test]
    fn reads_the_job() {
        assert!(is_restart("4711 clmgr.service restart running"));
        assert!(is_restart(
            "1 other.service stop waiting\n2 clmgr.service  restart  running\n"
        ));
        assert!(!is_restart("4711 clmgr.service stop running"));
        assert!(!is_restart("1 other.service restart running\nNo jobs running."));
        assert!(!is_restart(""));
    }
}
