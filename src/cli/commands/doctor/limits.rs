//! Limits that a manager of many processes meets first.

use crate::os::procfs;

use super::Scene;
use super::check::Check;

/// Below this, some hundred instances are too many.
const FILES: u64 = 4096;
/// Below this, an app with some children is too many.
const PROCESSES: u64 = 512;
/// What Node and most servers ask for when they listen.
const BACKLOG: u64 = 511;

pub(super) fn check(scene: &Scene) -> Vec<Check> {
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let pid = scene.ping.as_ref().map_or(own, |ping| ping.keeper_pid);
    let mut checks = Vec::new();
    // The keeper raises its own limit to the hard one, so that one decides.
    if let Some((_, hard)) = procfs::limit(pid, "Max open files") {
        checks.push(at_least(
            "open files",
            hard,
            FILES,
            "raise the hard limit: LimitNOFILE= in the unit, or /etc/security/limits.conf",
        ));
    }
    let root = rustix::process::geteuid().is_root();
    if let Some((soft, _)) = procfs::limit(pid, "Max processes").filter(|_| !root) {
        checks.push(at_least(
            "processes",
            soft,
            PROCESSES,
            "raise it: LimitNPROC= in the unit, or /etc/security/limits.conf",
        ));
    }
    if let Some(most) = number("/proc/sys/kernel/pid_max") {
        checks.push(at_least("pid_max", most, 32_768, "sysctl -w kernel.pid_max=4194304"));
    }
    if let Some(most) = number("/proc/sys/fs/file-max") {
        checks.push(at_least("file-max", most, 65_536, "sysctl -w fs.file-max=1048576"));
    }
    if let Some(most) = number("/proc/sys/net/core/somaxconn") {
        checks.push(at_least(
            "somaxconn",
            most,
            BACKLOG,
            "sysctl -w net.core.somaxconn=4096",
        ));
    }
    checks
}

fn number(path: &str) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn at_least(what: &'static str, limit: u64, enough: u64, next: &str) -> Check {
    let shown = if limit == u64::MAX {
        "unlimited".to_owned()
    } else {
        limit.to_string()
    };
    if limit >= enough {
        Check::ok(what, shown)
    } else {
        Check::attention(what, format!("{shown}, less than {enough}"), next)
    }
}

#[cfg(test)]
mod tests {
    use super::at_least;
    use crate::cli::commands::doctor::check::Verdict;

    #[test]
    fn compares_with_what_is_needed() {
        assert_eq!(at_least("x", 10, 10, "do").verdict, Verdict::Ok);
        assert_eq!(at_least("x", u64::MAX, 10, "do").message, "unlimited");
        assert_eq!(at_least("x", 9, 10, "do").verdict, Verdict::Attention);
    }
}
