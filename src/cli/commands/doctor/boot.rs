//! Is the manager started at boot?

use std::path::{Path, PathBuf};

use crate::cli::world;

use super::Scene;
use super::check::Check;

/// There where systemd is the system's manager.
const SYSTEMD: &str = "/run/systemd/system";

pub(super) fn check(scene: &Scene) -> Vec<Check> {
    let root = rustix::process::geteuid().is_root();
    if std::env::var_os("CLMGR_HOME").is_some_and(|home| !home.is_empty()) {
        let message = format!(
            "CLMGR_HOME is set: {} is not what starts at boot",
            scene.home.state.display()
        );
        return vec![Check::note("boot", message)];
    }
    let openrc = Path::new("/etc/init.d/clmgr");
    if !Path::new(SYSTEMD).exists() {
        let check = if root && openrc.exists() {
            Check::ok("boot", format!("{} starts it", openrc.display()))
        } else {
            Check::note("boot", "there is no systemd here; nothing starts clmgr at boot").next("clmgr startup --print")
        };
        return vec![check];
    }
    let (folder, target) = if root {
        (PathBuf::from("/etc/systemd/system"), "multi-user.target.wants")
    } else {
        (user_units(), "default.target.wants")
    };
    let mut checks = vec![unit(&folder, target)];
    if !root {
        checks.push(linger());
    }
    checks
}

fn user_units() -> PathBuf {
    let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    config
        .filter(|path| path.is_absolute())
        .or_else(|| world::user_home().map(|home| home.join(".config")))
        .unwrap_or_default()
        .join("systemd/user")
}

fn unit(folder: &Path, target: &str) -> Check {
    let file = folder.join("clmgr.service");
    let enabled = folder.join(target).join("clmgr.service");
    if !file.exists() {
        Check::attention(
            "boot",
            format!(
                "there is no unit ({}): apps do not come back after a reboot",
                file.display()
            ),
            "clmgr startup",
        )
    } else if enabled.symlink_metadata().is_err() {
        Check::attention(
            "boot",
            format!(
                "the unit {} is not enabled: apps do not come back after a reboot",
                file.display()
            ),
            "clmgr startup",
        )
    } else {
        Check::ok("boot", format!("the unit {} is enabled", file.display()))
    }
}

/// A user's own units run without a session only if the user lingers.
fn linger() -> Check {
    let uid = rustix::process::geteuid();
    let user = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid.as_raw()));
    let Some(user) = user.ok().flatten() else {
        return Check::note("linger", format!("user {} has no name", uid.as_raw()));
    };
    if Path::new("/var/lib/systemd/linger").join(&user.name).exists() {
        Check::ok("linger", format!("{} lingers: apps run without a session", user.name))
    } else {
        Check::attention(
            "linger",
            format!(
                "{} does not linger: apps end with the last session, and do not begin at boot",
                user.name
            ),
            "loginctl enable-linger, or clmgr startup",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::unit;
    use crate::cli::commands::doctor::check::Verdict;
    use crate::os::fsx;

    #[test]
    fn a_unit_must_be_there_and_enabled() {
        let folder = tempfile::tempdir().unwrap();
        let verdict = || unit(folder.path(), "x.wants").verdict;
        assert_eq!(verdict(), Verdict::Attention);
        let file = folder.path().join("clmgr.service");
        fsx::write_atomic(&file, b"[Unit]", 0o644).unwrap();
        assert_eq!(verdict(), Verdict::Attention);
        std::fs::create_dir(folder.path().join("x.wants")).unwrap();
        std::os::unix::fs::symlink(&file, folder.path().join("x.wants/clmgr.service")).unwrap();
        assert_eq!(verdict(), Verdict::Ok);
    }
}
