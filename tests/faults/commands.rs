//! Commands that go on while everything is being killed, one thread for each kind, and the model of what must be
//! true after each: a command that was acknowledged is true; one whose answer was lost is true as a whole or not
//! at all; instances that it does not mean keep their processes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use clmgr::api::status::AppStatus;
use clmgr::model::duration::Millis;
use clmgr::model::state::State;
use clmgr::os::poll;

use crate::fleet;
use crate::ledger::{self, Record};
use crate::random::Random;
use crate::report::Report;
use crate::world::{Said, World, lives};

/// The kinds of command.
pub(crate) const KINDS: [&str; 5] = ["scaled", "toggled", "restarted", "rolled", "web"];

/// Gives commands to the apps of one group until it is told to stop.
pub(crate) struct Commander<'a> {
    world: &'a World,
    report: &'a Report,
    random: Random,
    /// Whether the apps run, by name.
    running: BTreeMap<String, bool>,
    /// The version in force, by name.
    versions: BTreeMap<String, u32>,
    newest: u32,
}

/// What is asked for.
enum Change {
    Scale(u32),
    Run(bool),
    Restart(u32),
    Version(u32, bool),
    Reload,
}

impl<'a> Commander<'a> {
    /// For one thread.
    pub(crate) const fn new(world: &'a World, report: &'a Report, seed: u64) -> Self {
        Self {
            world,
            report,
            random: Random::new(seed),
            running: BTreeMap::new(),
            versions: BTreeMap::new(),
            newest: 0,
        }
    }

    /// One command after the other.
    pub(crate) fn run(mut self, group: &str, stop: &AtomicBool) -> anyhow::Result<()> {
        let names = fleet::names(group);
        while !stop.load(Ordering::Acquire) {
            let name = &names[usize::try_from(self.random.below(names.len() as u64))?];
            self.one(group, name).with_context(|| format!("commanding {name}"))?;
            poll::pause(Millis(self.random.below(400)));
        }
        Ok(())
    }

    fn one(&mut self, group: &str, name: &str) -> anyhow::Result<()> {
        let change = match group {
            "scaled" => Change::Scale(1 + u32::try_from(self.random.below(6))?),
            "toggled" => Change::Run(!self.running.get(name).copied().unwrap_or(true)),
            "restarted" => Change::Restart(u32::try_from(self.random.below(3))?),
            "rolled" => {
                self.newest += 1;
                Change::Version(self.newest, self.random.below(4) == 0)
            }
            _ => Change::Reload,
        };
        let before = self.look(name)?;
        let said = self.order(name, &change)?;
        let after = if matches!(change, Change::Version(..) | Change::Reload) && said.code != 0 {
            self.settled(name)?
        } else {
            self.look(name)?
        };
        self.judge(name, &change, &said, &before, &after)
    }

    fn order(&self, name: &str, change: &Change) -> anyhow::Result<Said> {
        match change {
            Change::Scale(to) => self.world.cli(&["scale", name, &to.to_string()]),
            Change::Run(run) => self.world.cli(&[if *run { "start" } else { "stop" }, name]),
            Change::Restart(slot) => self.world.cli(&["restart", &format!("{name}:{slot}")]),
            Change::Version(version, crashes) => {
                let file = fleet::write_version(self.world.root(), name, *version, *crashes)?;
                self.world.cli(&["start", &file])
            }
            Change::Reload => self.world.cli(&["reload", name]),
        }
    }

    fn look(&self, name: &str) -> anyhow::Result<AppStatus> {
        let mut status = self.world.status(Some(name))?;
        status.apps.pop().context("it is not known any more")
    }

    /// After a rollout whose end was not told: when it has ended.
    fn settled(&self, name: &str) -> anyhow::Result<AppStatus> {
        let mut last = self.look(name)?;
        self.world.until("the end of a rollout", || {
            last = self.look(name)?;
            Ok(last.state == State::Online && last.instances.len() == last.desired as usize)
        })?;
        Ok(last)
    }

    fn judge(
        &mut self,
        name: &str,
        change: &Change,
        said: &Said,
        before: &AppStatus,
        after: &AppStatus,
    ) -> anyhow::Result<()> {
        let done = self.is_done(name, change, before, after)?;
        let kept = is_kept(change, before, after);
        let told = || {
            format!(
                "{name}: {}: before {}, after {}",
                words(change),
                brief(before),
                brief(after)
            )
        };
        let must_fail = matches!(change, Change::Version(_, true));
        match said.code {
            0 => {
                self.report.count("commands acknowledged and checked", 1);
                if must_fail || !done {
                    self.report.wrong("acknowledged but untrue", 1, told());
                }
            }
            5 => self.report.count("commands whose answer was lost", 1),
            code => {
                self.report.count("commands answered with no", 1);
                if !must_fail {
                    let first = said.err.lines().next().unwrap_or_default();
                    self.report
                        .said("answered with no", format!("{}: {code}: {first}", words(change)));
                }
            }
        }
        if must_fail && done {
            self.report.wrong(
                "neither done nor left",
                1,
                format!("a version that crashes is in force: {}", told()),
            );
        }
        if said.code != 0 && !done && !self.is_left(name, change, before, after)? {
            self.report.wrong(
                "neither done nor left",
                1,
                format!("{} (code {}: {})", told(), said.code, said.err.trim()),
            );
        }
        if !kept {
            self.report.wrong("pids changed without reason", 1, told());
        }
        match change {
            Change::Run(run) => {
                let now = if done { *run } else { !*run };
                self.running.insert(name.to_owned(), now);
            }
            Change::Version(version, _) if done => {
                self.versions.insert(name.to_owned(), *version);
            }
            Change::Version(..) | Change::Scale(_) | Change::Restart(_) | Change::Reload => {}
        }
        Ok(())
    }

    /// The effect of the command is there.
    fn is_done(&self, name: &str, change: &Change, before: &AppStatus, after: &AppStatus) -> anyhow::Result<bool> {
        Ok(match change {
            Change::Scale(to) => {
                after.desired == *to && after.instances.len() == *to as usize && new_run(before, after)
            }
            Change::Run(true) => all_run(after),
            Change::Run(false) => {
                after.instances.iter().all(|one| one.state == State::Stopped)
                    && pids(before).values().all(|pid| !lives(*pid))
            }
            Change::Restart(slot) => all_run(after) && pids(before).get(slot) != pids(after).get(slot),
            Change::Version(version, _) => self.has_version(name, after, *version)?,
            Change::Reload => {
                let old: Vec<i32> = pids(before).into_values().collect();
                all_run(after) && pids(after).values().all(|pid| !old.contains(pid))
            }
        })
    }

    /// Everything is as it was. What was told to stop or start may still be on its way.
    fn is_left(&self, name: &str, change: &Change, before: &AppStatus, after: &AppStatus) -> anyhow::Result<bool> {
        Ok(match change {
            Change::Scale(to) => after.desired == before.desired || after.desired == *to,
            Change::Run(_) | Change::Restart(_) => after.desired == before.desired,
            Change::Version(..) => {
                let version = self.versions.get(name).copied().unwrap_or(0);
                self.has_version(name, after, version)?
            }
            Change::Reload => all_run(after),
        })
    }

    /// All instances run and were born as this version.
    fn has_version(&self, name: &str, app: &AppStatus, version: u32) -> anyhow::Result<bool> {
        let version = version.to_string();
        let entries = ledger::read(self.world.root())?;
        let born: Vec<i32> = entries
            .iter()
            .filter(|entry| entry.app == name && entry.record == Record::Born && entry.version == version)
            .map(|entry| entry.pid)
            .collect();
        Ok(all_run(app) && pids(app).values().all(|pid| born.contains(pid)))
    }
}

/// The processes of an app by slot.
pub(crate) fn pids(app: &AppStatus) -> BTreeMap<u32, i32> {
    app.instances
        .iter()
        .filter_map(|one| Some((one.slot, one.pid?)))
        .collect()
}

fn all_run(app: &AppStatus) -> bool {
    app.instances
        .iter()
        .all(|one| one.state == State::Online && one.pid.is_some_and(lives))
}

/// The instances that there were not before run. The others may be waiting for their next start.
fn new_run(before: &AppStatus, after: &AppStatus) -> bool {
    after
        .instances
        .iter()
        .skip(before.instances.len())
        .all(|one| one.state == State::Online && one.pid.is_some_and(lives))
}

/// Instances that are not meant by the command have the same processes as before.
fn is_kept(change: &Change, before: &AppStatus, after: &AppStatus) -> bool {
    let now = pids(after);
    pids(before)
        .into_iter()
        .filter(|(slot, _)| match change {
            Change::Scale(to) => slot < to && *slot < after.desired,
            Change::Restart(meant) => slot != meant,
            Change::Run(_) | Change::Version(_, false) | Change::Reload => false,
            Change::Version(_, true) => true,
        })
        .all(|(slot, pid)| now.get(&slot) == Some(&pid))
}

const fn words(change: &Change) -> &'static str {
    match change {
        Change::Scale(_) => "scale",
        Change::Run(true) => "start",
        Change::Run(false) => "stop",
        Change::Restart(_) => "restart of one instance",
        Change::Version(_, false) => "start of a new version",
        Change::Version(_, true) => "start of a version that crashes",
        Change::Reload => "reload",
    }
}

fn brief(app: &AppStatus) -> String {
    let instances: Vec<String> = app
        .instances
        .iter()
        .map(|one| format!("{}:{}:{}", one.slot, one.state.as_str(), one.pid.unwrap_or(0)))
        .collect();
    format!("{} of {} [{}]", app.state.as_str(), app.desired, instances.join(" "))
}
