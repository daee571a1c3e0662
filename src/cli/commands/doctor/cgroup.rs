//! cgroup v2, and whether the manager's own group is its to divide.

use std::path::{Path, PathBuf};

use super::Scene;
use super::check::Check;

const ROOT: &str = "/sys/fs/cgroup";

pub(super) fn check(scene: &Scene) -> Check {
    let pid = scene.ping.as_ref().map_or(0, |ping| ping.keeper_pid);
    let process = if pid > 0 { pid.to_string() } else { "self".to_owned() };
    if !Path::new(ROOT).join("cgroup.controllers").exists() {
        return Check::note(
            "cgroup",
            "there is no cgroup v2: limits of memory and CPU cannot be kept by the kernel",
        );
    }
    let text = std::fs::read_to_string(format!("/proc/{process}/cgroup")).unwrap_or_default();
    let Some(group) = own_group(&text) else {
        return Check::note("cgroup", "the manager is in no group of cgroup v2");
    };
    let folder = Path::new(ROOT).join(&group);
    let may = |file: &str| nix::unistd::access(&folder.join(file), nix::unistd::AccessFlags::W_OK).is_ok();
    let name = format!("/{}", group.display());
    if may("cgroup.procs") && may("cgroup.subtree_control") {
        let controllers = std::fs::read_to_string(folder.join("cgroup.controllers")).unwrap_or_default();
        Check::ok("cgroup", format!("v2, {name} is delegated: {}", controllers.trim()))
    } else {
        Check::note(
            "cgroup",
            format!("v2, but {name} is not delegated: limits of memory and CPU cannot be kept by the kernel"),
        )
        .next("clmgr startup installs a unit with Delegate=yes")
    }
}

/// The path of the v2 group without its leading slash.
fn own_group(text: &str) -> Option<PathBuf> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use super::own_group;
    use std::path::Path;

    #[test]
    fn finds_the_group_of_v2() {
        let found = own_group("12:cpu:/x\n0::/system.slice/clmgr.service\n").unwrap();
        assert_eq!(found, Path::new("system.slice/clmgr.service"));
        assert_eq!(own_group("0::/\n").unwrap(), Path::new(""));
        assert_eq!(own_group("1:name=systemd:/\n"), None);
    }
}
