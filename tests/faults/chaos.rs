//! The killer: the daemon, the keeper, or both at once, at random moments; and what must be true right after.

use std::collections::BTreeMap;

use anyhow::Context as _;
use clmgr::api::status::StatusReply;
use clmgr::model::duration::Millis;
use clmgr::model::time::Moment;
use clmgr::os::{clock, poll, procfs};

use crate::events::Events;
use crate::fleet;
use crate::random::Random;
use crate::report::Report;
use crate::world::{World, lives};

/// A daemon that lived this long is started again without a pause.
const GROWN: Millis = Millis(500);

const SIGKILL: i32 = 9;
const SIGSTOP: i32 = 19;

/// From one death to the next answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outage {
    /// The kill.
    pub(crate) from: Moment,
    /// The answer.
    pub(crate) to: Moment,
    /// The keeper was among the dead.
    pub(crate) keeper: bool,
    /// They died at once.
    pub(crate) both: bool,
}

/// Groups whose processes nobody ever touches.
const UNTOUCHED: [&str; 3] = ["lines", "idle", "pair"];

/// Who kills, and what it has seen.
pub(crate) struct Chaos<'a> {
    world: &'a World,
    report: &'a Report,
    random: Random,
    keeper: i32,
    before: BTreeMap<(String, u32), (i32, u64)>,
    restarts: BTreeMap<(String, u32), u32>,
    /// The event log.
    pub(crate) events: Events,
    /// All times without a daemon.
    pub(crate) outages: Vec<Outage>,
}

impl<'a> Chaos<'a> {
    /// Remembers who lives now.
    pub(crate) fn new(world: &'a World, report: &'a Report, seed: u64) -> anyhow::Result<Self> {
        let mut chaos = Self {
            world,
            report,
            random: Random::new(seed),
            keeper: world.ping()?.keeper_pid,
            before: BTreeMap::new(),
            restarts: BTreeMap::new(),
            events: Events::default(),
            outages: Vec::new(),
        };
        let status = world.status(None)?;
        for (instance, pid) in untouched(&status) {
            let ticks = procfs::identity(pid).context("an instance is gone")?.start_ticks;
            chaos.before.insert(instance, (pid, ticks));
        }
        report.count("instances watched", chaos.before.len() as u64);
        chaos.look(&status);
        Ok(chaos)
    }

    /// Replaces daemon and keeper so often by another build, and back.
    pub(crate) fn upgrades(&mut self, count: u32) -> anyhow::Result<()> {
        let builds = self.world.builds()?;
        for turn in 0..count {
            poll::pause(Millis(self.random.below(300)));
            let before = self.world.ping()?;
            let from = clock::monotonic();
            let build = &builds[(turn as usize + 1) % builds.len()];
            let said = self.world.cli(&["upgrade", "--to", build])?;
            let after = self.world.ping()?;
            let is_done = said.code == 0 && after.pid != before.pid && after.keeper_pid == before.keeper_pid;
            self.report.count("upgrades", u64::from(is_done));
            if !is_done {
                let text = format!("{} {}: {before:?}, then {after:?}", said.code, said.err.trim());
                self.report.wrong("not upgraded", 1, text);
            }
            self.outages.push(Outage {
                from,
                to: clock::monotonic(),
                keeper: false,
                both: false,
            });
            let status = self.world.status(None)?;
            self.look(&status);
            self.events.read(self.world, self.report)?;
        }
        Ok(())
    }

    /// Kills the daemon so often: one that has worked for a while, and often some more while they are starting.
    pub(crate) fn daemons(&mut self, count: u32) -> anyhow::Result<()> {
        let mut left = count;
        while left > 0 {
            poll::pause(Millis(GROWN.0 + self.random.below(100)));
            let row = self.random.pick(&[1, 3, 3, 3, 4]);
            for _ in 0..row {
                if left > 0 && self.daemon(row)? {
                    left -= 1;
                }
            }
            let what = if row == 1 {
                "status after a kill"
            } else {
                "status after kills in a row"
            };
            self.back(what)?;
        }
        Ok(())
    }

    /// One kill. False if the daemon ended by itself meanwhile.
    fn daemon(&mut self, row: u64) -> anyhow::Result<bool> {
        let keeper = self.keeper;
        let mut daemon = None;
        self.world.until("a daemon", || {
            daemon = self.world.daemon_of(keeper).filter(|pid| lives(*pid));
            Ok(daemon.is_some())
        })?;
        if row > 1 {
            poll::pause(Millis(self.random.below(80)));
        }
        let daemon = daemon.context("no daemon")?;
        let from = clock::monotonic();
        let killed = self.world.signal_manager(daemon, SIGKILL);
        self.outages.push(Outage {
            from,
            to: Moment(u64::MAX),
            keeper: false,
            both: false,
        });
        self.report.count("daemons killed", u64::from(killed));
        self.world.until("the daemon's end", || Ok(!lives(daemon)))?;
        Ok(killed)
    }

    /// Kills the keeper so often.
    pub(crate) fn keepers(&mut self, count: u32) -> anyhow::Result<()> {
        for _ in 0..count {
            poll::pause(Millis(200 + self.random.below(500)));
            let old = self.world.ping()?.keeper_pid;
            let from = clock::monotonic();
            self.outages.push(Outage {
                from,
                to: Moment(u64::MAX),
                keeper: true,
                both: false,
            });
            if self.world.signal_manager(old, SIGKILL) {
                self.report.count("keepers killed", 1);
            }
            let replaced = self
                .world
                .until("another keeper", || Ok(self.world.ping()?.keeper_pid != old));
            if let Err(error) = replaced {
                self.report.wrong("not replaced", 1, format!("{error:#}"));
                anyhow::bail!("it cannot go on without a keeper");
            }
            self.back("status from a new keeper")?;
        }
        Ok(())
    }

    /// Kills keeper and daemon so often, so that neither can replace the other; then asks with the real command.
    pub(crate) fn both(&mut self, count: u32) -> anyhow::Result<()> {
        for _ in 0..count {
            poll::pause(Millis(200 + self.random.below(500)));
            let ping = self.world.ping()?;
            let from = clock::monotonic();
            self.outages.push(Outage {
                from,
                to: Moment(u64::MAX),
                keeper: true,
                both: true,
            });
            for signal in [SIGSTOP, SIGKILL] {
                for pid in [ping.keeper_pid, ping.pid] {
                    self.world.signal_manager(pid, signal);
                }
            }
            self.world
                .until("the end of both", || Ok(!lives(ping.keeper_pid) && !lives(ping.pid)))?;
            self.report.count("both killed at once", 1);
            poll::pause(Millis(self.random.below(400)));
            let said = self.world.cli(&["status", "--json"])?;
            if said.code != 0 {
                self.report
                    .wrong("not back", 1, format!("{} {}", said.code, said.err.trim()));
            }
            self.back("status after both were killed")?;
        }
        Ok(())
    }

    /// Control is back; everything that can be looked at is.
    fn back(&mut self, what: &'static str) -> anyhow::Result<()> {
        let status = match self.world.status(None) {
            Ok(status) => status,
            Err(error) => {
                self.report.wrong("not answering", 1, format!("{error:#}"));
                return Err(error);
            }
        };
        let now = clock::monotonic();
        let last = self.outages.last().map_or(now, |outage| outage.from);
        self.report.took(what, now.since(last));
        for outage in self.outages.iter_mut().filter(|outage| outage.to.0 == u64::MAX) {
            outage.to = now;
        }
        self.keeper = self.world.ping()?.keeper_pid;
        self.look(&status);
        self.events.read(self.world, self.report)
    }

    /// Whether the untouched are untouched, counters have not gone back, and nobody lives twice.
    pub(crate) fn look(&mut self, status: &StatusReply) {
        let now = untouched(status);
        for (instance, (pid, ticks)) in &self.before {
            let same = now.get(instance) == Some(pid)
                && procfs::identity(*pid).is_some_and(|identity| identity.start_ticks == *ticks)
                && lives(*pid);
            if !same {
                let text = format!("{}:{} was {pid} and is {:?}", instance.0, instance.1, now.get(instance));
                self.report.wrong("pids changed without reason", 1, text);
            }
        }
        for app in &status.apps {
            for one in &app.instances {
                if ["loop", "open", "exits"].contains(&fleet::group(app.name.as_str())) {
                    let known = self.restarts.entry((app.name.to_string(), one.slot)).or_default();
                    if one.restarts < *known {
                        let text = format!("{}: {} restarts, and before that {known}", app.name, one.restarts);
                        self.report.wrong("counters reset", 1, text);
                    }
                    *known = one.restarts;
                }
            }
        }
        for (app, pids) in self.world.apps() {
            if pids.len() > fleet::most(&app) {
                self.report
                    .wrong("duplicates", 1, format!("{app}: {pids:?} live at once"));
            }
        }
    }
}

fn untouched(status: &StatusReply) -> BTreeMap<(String, u32), i32> {
    let apps = status
        .apps
        .iter()
        .filter(|app| UNTOUCHED.contains(&fleet::group(app.name.as_str())));
    apps.flat_map(|app| {
        app.instances
            .iter()
            .map(|one| ((app.name.to_string(), one.slot), one.pid.unwrap_or(0)))
    })
    .collect()
}
