//! A server that clmgr runs, and the loads on it.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::PathBuf;

use anyhow::Context as _;
use clmgr::model::duration::Millis;

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
    /// `server.js` as workers of a cluster: it listens on a port as if it were alone.
    NodeCluster,
    /// The same without the preload that mends Node's way of closing connections.
    NodeBare,
    /// `server.js` on an inherited descriptor.
    NodeFd,
}

impl Server {
    /// In names and in the table.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Python => "python",
            Self::NodeCluster => "node",
            Self::NodeBare => "node without preload",
            Self::NodeFd => "node with fd",
        }
    }

    /// It needs Node.
    pub(crate) const fn is_node(self) -> bool {
        match self {
            Self::Rust | Self::Python => false,
            Self::NodeCluster | Self::NodeBare | Self::NodeFd => true,
        }
    }

    /// It closes idle connections when it is told to end, while a request may be under way on them.
    pub(crate) const fn races(self) -> bool {
        match self {
            Self::Rust | Self::Python | Self::NodeCluster => false,
            Self::NodeBare | Self::NodeFd => true,
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
    /// Its port.
    pub(crate) port: u16,
    server: Server,
}

/// What a file says of one app.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    /// Its name.
    pub(crate) name: String,
    /// Its program.
    pub(crate) server: Server,
    /// How many.
    pub(crate) instances: u32,
    /// Further keys, one a line, which win over those that are usual here.
    pub(crate) more: String,
    /// Variables.
    pub(crate) env: Vec<(&'static str, String)>,
}

impl Spec {
    /// An app of which nothing special is said.
    pub(crate) fn new(name: &str, server: Server, instances: u32, more: &str) -> anyhow::Result<Self> {
        let mut env = Vec::new();
        if matches!(server, Server::NodeCluster | Server::NodeBare) {
            let free = TcpListener::bind("127.0.0.1:0")?;
            env.push(("PORT", free.local_addr()?.port().to_string()));
        }
        Ok(Self {
            name: name.replace(' ', "-"),
            server,
            instances,
            more: more.to_owned(),
            env,
        })
    }

    /// Writes the file.
    pub(crate) fn write(&self, world: &World) -> anyhow::Result<PathBuf> {
        let root = world.root().display();
        let listen = "listen = \"127.0.0.1:0\"";
        let node = format!("cmd = [\"node\", \"{root}/server.js\", \"{root}\"]");
        let mut usual = match self.server {
            Server::Rust => {
                let exe = std::env::current_exe()?;
                let command = format!("cmd = [\"{}\", \"app\", \"{root}\"]", exe.display());
                vec![command, "ready = \"fd:4\"".to_owned(), listen.to_owned()]
            }
            Server::Python => {
                let command = format!("cmd = [\"python3\", \"{root}/server.py\", \"{root}\"]");
                vec![command, "ready = \"fd:4\"".to_owned(), listen.to_owned()]
            }
            Server::NodeFd => vec![node, "ready = \"ipc\"".to_owned(), listen.to_owned()],
            Server::NodeCluster => vec![node, "exec_mode = \"cluster\"".to_owned()],
            Server::NodeBare => {
                let mode = "exec_mode = \"cluster\"\nnode_preload = false";
                vec![node, mode.to_owned()]
            }
        };
        usual.push("kill_timeout = \"8s\"".to_owned());
        usual.push("rollout = { min_healthy = \"50ms\", parallel = 2 }".to_owned());
        let mut text = format!(
            "[[apps]]\nname = \"{}\"\ninstances = {}\nenv_inherit = [\"PATH\", \"CLMGR_HOME\"]\n{}\n",
            self.name, self.instances, self.more
        );
        for line in usual {
            let key = line.split('=').next().unwrap_or_default();
            if !self.more.lines().any(|other| other.starts_with(key)) {
                writeln!(text, "{line}")?;
            }
        }
        let env: Vec<String> = self
            .env
            .iter()
            .map(|(name, value)| format!("{name} = \"{value}\""))
            .collect();
        writeln!(text, "env = {{ {} }}", env.join(", "))?;
        world.file(&format!("{}.toml", self.name), &text)
    }
}

impl<'a> Service<'a> {
    /// Starts it.
    pub(crate) fn start(world: &'a World, spec: &Spec) -> anyhow::Result<Self> {
        let file = spec.write(world)?;
        world.done(&["start", file.to_str().context("a strange path")?])?;
        world.online(&spec.name)?;
        let given = spec.env.iter().find(|(name, _)| *name == "PORT");
        let port = match given {
            Some((_, port)) => port.parse()?,
            None => world.port(&spec.name)?,
        };
        Ok(Self {
            world,
            name: spec.name.clone(),
            port,
            server: spec.server,
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
        // One that the manager has passed on comes from another port; who has answered on it tells.
        let is_noted = by_end && (held(loss.port) || loss.pid.is_some_and(|pid| dead.pids.contains(&pid)));
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
