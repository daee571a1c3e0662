//! Processes of apps that no manager knows any more: of a home that was removed, or of a run that was lost. They are
//! found by the mark that every process of an app carries, and only told: whoever reads this decides.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;

use crate::os::home::Home;
use crate::os::procfs;

use super::Scene;
use super::check::Check;

/// The mark: `CLMGR_RUN=<home's tag>.<run>`.
const MARK: &str = "CLMGR_RUN";
/// What a living manager has just started may be a probe or a hook: these come and go. In seconds.
const YOUNG: u64 = 60;
/// More than this are summed up.
const MANY: usize = 20;

/// A process that carries a mark.
#[derive(Debug)]
struct Marked {
    pid: i32,
    parent: i32,
    tag: String,
}

pub(super) fn check(scene: &Scene) -> Vec<Check> {
    let own = scene.home.tag();
    let mut marked = Vec::new();
    let mut keepers: BTreeMap<String, (i32, Home)> = BTreeMap::new();
    for pid in procfs::all_pids() {
        let Some(environ) = procfs::environ(pid) else { continue };
        // A manager that was started from an app has the app's mark, and is nobody's run.
        match manager_role(pid).as_deref() {
            Some("keeper") => {
                if let Some(home) = keeper_home(pid, &environ) {
                    keepers.insert(home.tag(), (pid, home));
                }
                continue;
            }
            Some(_) => continue,
            None => {}
        }
        let mark = procfs::variable(&environ, MARK).and_then(|mark| mark.into_string().ok());
        let stat = procfs::stat(pid).filter(|stat| !stat.is_dead());
        if let (Some(mark), Some(stat)) = (mark, stat)
            && let Some((tag, _)) = mark.split_once('.')
            && (tag != own || scene.status.is_none() || procfs::age(&stat).is_none_or(|age| age >= YOUNG))
        {
            marked.push(Marked {
                pid,
                parent: stat.ppid,
                tag: tag.to_owned(),
            });
        }
    }
    let mut checks = former_homes(&keepers);
    let leaders: Option<BTreeSet<i32>> = scene.status.as_ref().map(|status| {
        let instances = status.apps.iter().flat_map(|app| &app.instances);
        instances.filter_map(|instance| instance.pid).collect()
    });
    let living: BTreeSet<&str> = keepers.keys().map(String::as_str).collect();
    let lost = orphans(&marked, &own, &living, leaders.as_ref());
    let manager_sees = scene.keeper_lives || scene.ping.is_some();
    for process in lost.iter().take(MANY) {
        checks.push(tell(process, process.tag == own && !manager_sees));
    }
    if lost.len() > MANY {
        let message = format!("… and {} more", lost.len() - MANY);
        checks.push(Check::attention("orphan", message, "clmgr doctor, when these are gone"));
    }
    if checks.is_empty() {
        checks.push(Check::ok(
            "orphans",
            "no process is left of a former home or a lost run",
        ));
    }
    checks
}

/// `keeper` or `daemon` for a process of a manager.
fn manager_role(pid: i32) -> Option<String> {
    let role = procfs::command(pid).into_iter().nth(1)?;
    let ours = || {
        let exe = procfs::exe(pid)?;
        Some(exe.path.file_name()?.to_string_lossy().contains("clmgr"))
    };
    (matches!(role.as_str(), "keeper" | "daemon") && ours() == Some(true)).then_some(role)
}

/// The home of a keeper with this environment.
fn keeper_home(pid: i32, environ: &[u8]) -> Option<Home> {
    let root =
        std::fs::metadata(format!("/proc/{pid}")).is_ok_and(|folder| std::os::unix::fs::MetadataExt::uid(&folder) == 0);
    Home::from_environment(
        &|name| procfs::variable(environ, name).filter(|value: &OsString| !value.is_empty()),
        root,
    )
    .ok()
}

fn former_homes(keepers: &BTreeMap<String, (i32, Home)>) -> Vec<Check> {
    let gone = keepers.values().filter(|(_, home)| !home.state.exists());
    gone.map(|(pid, home)| {
        Check::attention(
            "former home",
            format!(
                "a keeper (process {pid}) runs for {}, which is not there any more",
                home.state.display()
            ),
            format!("kill {pid} stops its apps and ends it"),
        )
    })
    .collect()
}

/// Those that no manager knows: of a home without a keeper, or of ours and under no instance. What belongs to another
/// manager that lives is that manager's. Only the first of each tree.
fn orphans<'m>(
    marked: &'m [Marked],
    own: &str,
    living: &BTreeSet<&str>,
    leaders: Option<&BTreeSet<i32>>,
) -> Vec<&'m Marked> {
    let parents: BTreeMap<i32, i32> = marked.iter().map(|process| (process.pid, process.parent)).collect();
    let known = |process: &Marked| {
        let mut pid = Some(process.pid);
        // A chain of parents is not longer than the table, whatever happened while it was read.
        for _ in 0..=marked.len() {
            match pid {
                Some(at) if leaders.is_some_and(|leaders| leaders.contains(&at)) => return true,
                Some(at) => pid = parents.get(&at).copied(),
                None => return false,
            }
        }
        false
    };
    let lost = |process: &&Marked| {
        if process.tag == own {
            // Without an answer nothing is known; the manager's own row says so.
            !known(process) && (leaders.is_some() || !living.contains(own))
        } else {
            !living.contains(process.tag.as_str())
        }
    };
    let lost: Vec<&Marked> = marked.iter().filter(lost).collect();
    let pids: BTreeSet<i32> = lost.iter().map(|process| process.pid).collect();
    lost.into_iter()
        .filter(|process| !pids.contains(&process.parent))
        .collect()
}

fn tell(process: &Marked, comes_back: bool) -> Check {
    let pid = process.pid;
    let mut command = procfs::command(pid).join(" ");
    if command.chars().count() > 60 {
        command = command.chars().take(59).chain(['…']).collect();
    }
    if comes_back {
        Check::attention(
            "orphan",
            format!("process {pid} ({command}) is an app of this home without its manager"),
            "clmgr status brings the manager back, which takes it over",
        )
    } else {
        Check::attention(
            "orphan",
            format!("process {pid} ({command}) was started by a clmgr that knows it no more"),
            format!("if it is not needed: kill {pid}"),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::{Marked, orphans};
    use std::collections::BTreeSet;

    fn process(pid: i32, parent: i32, tag: &str) -> Marked {
        Marked {
            pid,
            parent,
            tag: tag.to_owned(),
        }
    }

    #[test]
    fn only_what_no_living_manager_knows_is_an_orphan() {
        let all = [
            process(10, 1, "ours"),
            process(11, 10, "ours"),
            process(20, 1, "ours"),
            process(30, 1, "theirs"),
            process(40, 1, "gone"),
            process(41, 40, "gone"),
        ];
        let leaders = BTreeSet::from([10]);
        let found = |living: &[&str], leaders: Option<&BTreeSet<i32>>| {
            let living = living.iter().copied().collect();
            let lost = orphans(&all, "ours", &living, leaders);
            lost.iter().map(|process| process.pid).collect::<Vec<_>>()
        };
        assert_eq!(found(&["ours", "theirs"], Some(&leaders)), [20, 40]);
        assert_eq!(found(&["ours", "theirs"], None), [40], "nothing is known of ours");
        assert_eq!(found(&["theirs"], None), [10, 20, 40]);
    }
}
