//! A contestant: four workers behind a port.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

use super::{BUSY, WORKERS};
use crate::bed::Bed;
use crate::home::Home;
use crate::load::{self, Load, Pattern, Tally};
use crate::proc;

/// Who shares out the connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who {
    /// Node's own cluster: the primary accepts and hands over each connection.
    RoundRobin,
    /// Node's own cluster: the primary shares one socket.
    SharedHandle,
    /// PM2's cluster mode.
    Pm2,
    /// The kernel, among sockets of one SO_REUSEPORT group; nobody supervises.
    Group,
    /// clmgr's cluster mode with this `balance`; empty: its default.
    Clmgr(&'static str),
}

impl Who {
    /// For the table.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::RoundRobin => "Node SCHED_RR",
            Self::SharedHandle => "Node SCHED_NONE",
            Self::Pm2 => "PM2",
            Self::Group => "unsupervised",
            Self::Clmgr(_) => "clmgr",
        }
    }
}

/// What keeps a contestant alive and ends it when it is dropped.
#[derive(Debug)]
enum Hold<'b> {
    Child(Child),
    Pm2(&'b Bed, PathBuf),
    Home(Home<'b>),
}

/// A contestant that runs.
#[derive(Debug)]
pub(crate) struct Side<'b> {
    pub(crate) who: Who,
    port: u16,
    hold: Hold<'b>,
}

impl<'b> Side<'b> {
    /// Starts one and waits until all of its workers answer. `env` is for the workers.
    pub(crate) fn start(bed: &'b Bed, who: Who, env: &[(&str, &str)]) -> anyhow::Result<Self> {
        let port = free_port()?;
        let hold = match who {
            Who::RoundRobin => Hold::Child(node_cluster(bed, port, "rr", env)?),
            Who::SharedHandle => Hold::Child(node_cluster(bed, port, "none", env)?),
            Who::Group => Hold::Child(group(bed, port, env)?),
            Who::Pm2 => pm2(bed, port, env)?,
            Who::Clmgr(balance) => Hold::Home(clmgr(bed, port, balance, env)?),
        };
        let side = Self { who, port, hold };
        side.warm_up()
            .with_context(|| format!("{} does not work", who.name()))?;
        Ok(side)
    }

    /// The processes that are it: workers, and who is above them.
    pub(crate) fn pids(&self) -> anyhow::Result<Vec<i32>> {
        proc::tree(self.root()?)
    }

    /// Who is above the workers.
    pub(crate) fn above(&self) -> anyhow::Result<Vec<i32>> {
        Ok(match &self.hold {
            Hold::Child(_) | Hold::Pm2(..) => vec![self.root()?],
            Hold::Home(home) => vec![home.keeper, home.daemon],
        })
    }

    fn root(&self) -> anyhow::Result<i32> {
        Ok(match &self.hold {
            Hold::Child(child) => i32::try_from(child.id())?,
            Hold::Pm2(_, home) => std::fs::read_to_string(home.join("pm2.pid"))?.trim().parse()?,
            Hold::Home(home) => home.keeper,
        })
    }

    /// Puts it under load.
    pub(crate) fn load(&self, pattern: Pattern, time: Duration, from: &[Ipv4Addr]) -> anyhow::Result<Tally> {
        let load = Load {
            port: self.port,
            pattern,
            time,
            from: from.to_vec(),
        };
        load::run(&load).with_context(|| format!("{} under load", self.who.name()))
    }

    fn warm_up(&self) -> anyhow::Result<()> {
        let mut seen = std::collections::BTreeMap::new();
        for _ in 0..200 {
            if TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
                thread::sleep(Duration::from_millis(50));
                continue;
            }
            let tally = self.load(Pattern::Close(BUSY), Duration::from_millis(200), &addresses())?;
            seen.extend(tally.workers());
            if seen.len() == WORKERS {
                return Ok(());
            }
        }
        bail!("{} of {WORKERS} workers answer", seen.len());
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        match self {
            Self::Child(child) => {
                drop(child.stdin.take());
                let _ = child.wait();
            }
            Self::Pm2(bed, home) => {
                if let Some(pm2) = bed.tool("pm2") {
                    let _ = bed.command(pm2).arg("kill").env("PM2_HOME", home).status();
                }
            }
            Self::Home(_) => {}
        }
    }
}

/// Enough client addresses for every worker to have some.
pub(crate) fn addresses() -> Vec<Ipv4Addr> {
    (1..=200).map(|last| Ipv4Addr::new(127, 1, 0, last)).collect()
}

/// A file of `benches/contest`.
fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/contest").join(name)
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn spawn(mut command: Command, port: u16, env: &[(&str, &str)]) -> anyhow::Result<Child> {
    command.env("PORT", port.to_string()).envs(env.iter().copied());
    command.stdin(Stdio::piped()).process_group(0);
    Ok(command.spawn()?)
}

fn node_cluster(bed: &Bed, port: u16, policy: &str, env: &[(&str, &str)]) -> anyhow::Result<Child> {
    let mut command = bed.command("node");
    command
        .arg(script("primary.js"))
        .env("NODE_CLUSTER_SCHED_POLICY", policy);
    spawn(command, port, env)
}

fn group(bed: &Bed, port: u16, env: &[(&str, &str)]) -> anyhow::Result<Child> {
    let mut command = bed.command(bed.path("group"));
    command.args([&WORKERS.to_string(), &port.to_string(), "node"]);
    command.arg(script("hello.js"));
    spawn(command, port, env)
}

fn pm2<'b>(bed: &'b Bed, port: u16, env: &[(&str, &str)]) -> anyhow::Result<Hold<'b>> {
    let program = bed.tool("pm2").context("there is no pm2")?;
    let home = bed.path("pm2");
    let hold = Hold::Pm2(bed, home.clone());
    let mut command = bed.command(program);
    command.arg("start").arg(script("hello.js"));
    command.args(["-i", &WORKERS.to_string(), "--name", "hello"]);
    command.env("PM2_HOME", home).env("PORT", port.to_string());
    let status = command.envs(env.iter().copied()).status()?;
    ensure!(status.success(), "`pm2 start` failed: {status}");
    Ok(hold)
}

fn clmgr<'b>(bed: &'b Bed, port: u16, balance: &str, env: &[(&str, &str)]) -> anyhow::Result<Home<'b>> {
    let home = Home::start(bed, &format!("contest{port}"))?;
    let mut text = format!(
        "[[apps]]\nname = \"hello\"\nscript = {:?}\nexec_mode = \"cluster\"\ninstances = {WORKERS}\n",
        script("hello.js"),
    );
    if !balance.is_empty() {
        text.push_str(&format!("balance = {balance:?}\n"));
    }
    text.push_str(&format!("[apps.env]\nPORT = {port}\n"));
    for (name, value) in env {
        text.push_str(&format!("{name} = {value:?}\n"));
    }
    home.run(&["start", &home.ecosystem(&text)?])?;
    Ok(home)
}
