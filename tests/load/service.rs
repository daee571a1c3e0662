//! A server that clmgr runs, and the loads on it.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clmgr::model::duration::Millis;

use crate::apps;
use crate::generator::tally::{Failure, Tally};
use crate::generator::{self, Load, Pace, Plan};
use crate::held;
use crate::report::{Report, Row};
use crate::settings::Settings;
use crate::world::World;

/// How long a calibration takes.
const CALIBRATION: Millis = Millis(400);
/// The share of what a server carries at most that the loads take together.
pub(crate) const SHARE: f64 = 0.4;
/// Of the loads with requests of 40 ms, each.
const SLOW_RATE: f64 = 50.0;

/// Which program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    /// This binary.
    Rust,
    /// `server.py`.
    Python,
    /// `server.js` on an inherited descriptor.
    NodeFd,
}

impl Server {
    /// In names and in the table.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Python => "python",
            Self::NodeFd => "node-fd",
        }
    }

    /// It closes idle connections when it is told to end, while a request may be under way on them.
    pub(crate) const fn races(self) -> bool {
        match self {
            Self::Rust | Self::Python => false,
            Self::NodeFd => true,
        }
    }
}

/// An app under load.
#[derive(Debug)]
pub(crate) struct Service<'a> {
    /// Where it runs.
    pub(crate) world: &'a World,
    /// Its name.
    pub(crate) name: String,
    /// Its file.
    pub(crate) file: PathBuf,
    /// Its port.
    pub(crate) port: u16,
    server: Server,
}

/// The text of a file with one app; `more` are further keys, which win over those that are usual here.
pub(crate) fn text(world: &World, name: &str, server: Server, instances: u32, more: &str) -> anyhow::Result<String> {
    let root = world.root().display();
    let (command, ready) = match server {
        Server::Rust => {
            let exe = std::env::current_exe()?;
            let command = format!("cmd = [\"{}\", \"app\", \"{root}\"]", exe.display());
            (command, "\"fd:4\"")
        }
        Server::Python => {
            world.file("server.py", apps::PYTHON)?;
            let command = format!("cmd = [\"python3\", \"{root}/server.py\", \"{root}\"]");
            (command, "\"fd:4\"")
        }
        Server::NodeFd => {
            world.file("server.js", apps::NODE)?;
            let command = format!("cmd = [\"node\", \"{root}/server.js\", \"{root}\"]");
            (command, "\"ipc\"")
        }
    };
    let usual = [
        ("ready", ready),
        ("listen", "\"127.0.0.1:0\""),
        ("kill_timeout", "\"8s\""),
        ("rollout", "{ min_healthy = \"50ms\" }"),
    ];
    let mut text = format!("[[apps]]\nname = \"{name}\"\n{command}\ninstances = {instances}\n{more}\n");
    for (key, value) in usual {
        if !more.lines().any(|line| line.starts_with(&format!("{key} ="))) {
            writeln!(text, "{key} = {value}")?;
        }
    }
    Ok(text)
}

impl<'a> Service<'a> {
    /// Starts it.
    pub(crate) fn start(
        world: &'a World,
        name: &str,
        server: Server,
        instances: u32,
        more: &str,
    ) -> anyhow::Result<Self> {
        let file = world.file(&format!("{name}.toml"), &text(world, name, server, instances, more)?)?;
        world.done(&["start", file.to_str().context("a strange path")?])?;
        world.online(name)?;
        Ok(Self {
            world,
            name: name.to_owned(),
            file,
            port: world.port(name)?,
            server,
        })
    }

    /// Requests a second that all loads together may send.
    pub(crate) fn rate(&self, settings: &Settings) -> anyhow::Result<f64> {
        Ok(generator::calibrate(self.port, settings.seed, CALIBRATION)? * SHARE)
    }

    /// Puts it under load: connections kept and not, fast requests and slow ones.
    pub(crate) fn load(&self, settings: &Settings, rate: f64) -> Loads<'_> {
        let fast = (rate / 2.0).clamp(20.0, settings.rate.max(20.0));
        let slow = (rate / 8.0).clamp(5.0, SLOW_RATE);
        let mut loads = Vec::new();
        for (keep_alive, share, rate) in [(false, 0, fast), (true, 0, fast), (false, 100, slow), (true, 100, slow)] {
            let plan = Plan {
                port: self.port,
                keep_alive,
                // Each of the kept ones is used so often that its server need not wait for it long.
                connections: match (keep_alive, share) {
                    (true, 0) => 32,
                    (true, _) => 8,
                    (false, _) => 256,
                },
                slow: share,
                pace: Pace::Open(rate),
                seed: settings.seed * 10 + loads.len() as u64,
            };
            let kind = format!(
                "{}{}",
                if keep_alive { "keep-alive" } else { "close" },
                if share > 0 { ", 40 ms" } else { "" }
            );
            loads.push((kind, Load::begin(plan)));
        }
        Loads { service: self, loads }
    }

    /// One load of everything mixed.
    pub(crate) fn mixed(&self, settings: &Settings, rate: f64) -> Loads<'_> {
        let mut loads = Vec::new();
        for keep_alive in [false, true] {
            let plan = Plan {
                port: self.port,
                keep_alive,
                connections: if keep_alive { 16 } else { 256 },
                slow: 30,
                pace: Pace::Open((rate / 2.0).min(settings.rate)),
                seed: settings.seed * 10 + u64::from(keep_alive),
            };
            loads.push((String::new(), Load::begin(plan)));
        }
        Loads { service: self, loads }
    }

    /// It is not needed any more.
    pub(crate) fn delete(self) -> anyhow::Result<()> {
        self.world.done(&["delete", &self.name])?;
        Ok(())
    }
}

/// The loads on a service. Loads of no name make one line together.
#[derive(Debug)]
pub(crate) struct Loads<'a> {
    service: &'a Service<'a>,
    loads: Vec<(String, Load)>,
}

/// Processes that were ended without asking them, so that what they had accepted is lost with them.
#[derive(Debug, Default)]
pub(crate) struct Dead {
    /// Their pids.
    pub(crate) pids: Vec<i32>,
}

impl Loads<'_> {
    /// Waits until every load has had some more answers.
    pub(crate) fn go_on(&self) {
        for (_, load) in &self.loads {
            load.goes_on(5);
        }
    }

    /// Ends them and writes their lines.
    pub(crate) fn end(self, report: &Report, what: &str, times: u32, dead: &Dead) -> anyhow::Result<()> {
        let mut sums: Vec<(String, Tally)> = Vec::new();
        for (kind, load) in self.loads {
            let tally = load.end()?;
            match sums.last_mut().filter(|(known, _)| *known == kind) {
                Some((_, sum)) => sum.add(tally),
                None => sums.push((kind, tally)),
            }
        }
        // A process that died between accepting a connection and noting it: one at a time.
        let mut unnoted = dead.pids.len();
        for (kind, mut tally) in sums {
            let own = excuse(self.service, &mut tally, dead, &mut unnoted);
            let comma = if kind.is_empty() { "" } else { ", " };
            report.row(Row {
                what: format!("{what}: {}{comma}{kind}", self.service.server.as_str()),
                times,
                tally,
                own,
                races: self.service.server.races(),
            });
        }
        Ok(())
    }
}

/// Takes out what was lost with the processes that had accepted it, and counts it.
fn excuse(service: &Service<'_>, tally: &mut Tally, dead: &Dead, unnoted: &mut usize) -> u64 {
    let held = |port: u16| {
        let holds = |pid: &i32| held::at_the_end(service.world.root(), &service.name, *pid).contains(&port);
        dead.pids.iter().any(holds)
    };
    let mut own = 0;
    for loss in std::mem::take(&mut tally.losses) {
        let by_end = matches!(
            loss.failure,
            Failure::Reset | Failure::Eof | Failure::Raced | Failure::Timeout
        );
        let is_noted = by_end && held(loss.port);
        // What it answered as long as it lived was its own doing, too.
        let is_own = loss.failure == Failure::ServerError && loss.pid.is_some_and(|pid| dead.pids.contains(&pid));
        let is_unnoted = !is_noted && loss.failure == Failure::Reset && loss.pid.is_none() && *unnoted > 0;
        *unnoted -= usize::from(is_unnoted);
        if !is_noted && !is_unnoted && !is_own {
            tally.losses.push(loss);
            continue;
        }
        own += 1;
        if let Some(count) = tally.failed.get_mut(&loss.failure) {
            *count -= 1;
        }
    }
    own
}
