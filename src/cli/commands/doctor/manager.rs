//! Does the manager answer, and what do its two processes execute?

use crate::api::routes;
use crate::api::status::{Ping, StatusReply};
use crate::cli::connect::Daemon;
use crate::cli::failure::Failure;
use crate::cli::launch;
use crate::cli::render::human;
use crate::os::home::Home;
use crate::os::procfs::{self, Exe};

use super::Scene;
use super::check::Check;

/// Asks, without starting anything.
pub(super) fn reach(home: Home) -> (Scene, Vec<Check>) {
    let keeper_lives = launch::keeper_lives(&home);
    let asked = ask();
    let check = match &asked {
        Ok(Some((ping, _))) => Check::ok(
            "manager",
            format!(
                "daemon {} and keeper {} answer at {}, up {}",
                ping.pid,
                ping.keeper_pid,
                home.socket().display(),
                human::uptime(ping.uptime_ms)
            ),
        ),
        Ok(None) if keeper_lives => Check::attention(
            "manager",
            format!("a keeper runs, but nobody answers at {}", home.socket().display()),
            format!("see {}", home.own_log().display()),
        ),
        Ok(None) if home.db().exists() => Check::attention(
            "manager",
            format!("it does not run, though there is a state in {}", home.state.display()),
            "clmgr resurrect brings it and the saved apps back",
        ),
        Ok(None) => Check::note("manager", "it does not run, and nothing was ever started here").next("clmgr start"),
        Err(failure) => {
            let next = failure.hints.first().cloned();
            Check::attention(
                "manager",
                failure.message.clone(),
                next.unwrap_or_else(|| format!("see {}", home.own_log().display())),
            )
        }
    };
    let (ping, status) = asked.ok().flatten().unzip();
    let scene = Scene {
        home,
        ping,
        status,
        keeper_lives,
    };
    (scene, vec![check])
}

fn ask() -> Result<Option<(Ping, StatusReply)>, Failure> {
    let Some(mut daemon) = Daemon::running()? else {
        return Ok(None);
    };
    Ok(Some((daemon.get(routes::PING, &[])?, daemon.get(routes::STATUS, &[])?)))
}

/// Versions and binaries of keeper and daemon, if they run.
pub(super) fn binaries(scene: &Scene) -> Vec<Check> {
    let Some(ping) = &scene.ping else { return Vec::new() };
    let installed = procfs::exe(i32::try_from(std::process::id()).unwrap_or(0));
    vec![
        version(&ping.version),
        binary("keeper", ping.keeper_pid, installed.as_ref()),
        binary("daemon", ping.pid, installed.as_ref()),
    ]
}

fn version(running: &str) -> Check {
    let ours = env!("CARGO_PKG_VERSION");
    if running == ours {
        Check::ok("version", format!("clmgr {ours}"))
    } else {
        Check::attention(
            "version",
            format!("clmgr {running} runs, this is clmgr {ours}"),
            "clmgr upgrade",
        )
    }
}

fn binary(role: &'static str, pid: i32, installed: Option<&Exe>) -> Check {
    let Some(exe) = procfs::exe(pid) else {
        return Check::note(role, format!("process {pid}; this user may not see what it executes"));
    };
    let path = exe.path.display();
    let same = installed.is_some_and(|installed| installed.file == exe.file);
    if same {
        Check::ok(role, format!("process {pid} executes {path}"))
    } else if exe.deleted {
        Check::attention(
            role,
            format!("process {pid} still executes a file that was removed or replaced ({path})"),
            "clmgr upgrade",
        )
    } else {
        Check::attention(
            role,
            format!("process {pid} executes {path}, which is not this clmgr"),
            "clmgr upgrade",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::{binary, version};
    use crate::cli::commands::doctor::check::Verdict;
    use crate::os::procfs::{self, Exe};

    #[test]
    fn another_binary_or_version_needs_an_upgrade() {
        let own = i32::try_from(std::process::id()).unwrap();
        let exe = procfs::exe(own).unwrap();
        assert_eq!(binary("keeper", own, Some(&exe)).verdict, Verdict::Ok);
        let other = Exe {
            file: Some((0, 0)),
            ..exe
        };
        let check = binary("keeper", own, Some(&other));
        assert_eq!(
            (check.verdict, check.next.as_deref()),
            (Verdict::Attention, Some("clmgr upgrade"))
        );
        assert_eq!(binary("keeper", -1, Some(&other)).verdict, Verdict::Note);
        assert_eq!(version("0.0.0").verdict, Verdict::Attention);
        assert_eq!(version(env!("CARGO_PKG_VERSION")).verdict, Verdict::Ok);
    }
}
